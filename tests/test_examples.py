"""The trainings of examples/, bisected through the command line as their users would: each in a copy of its folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from bisecting import COMMAND, ROOT

EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/bisect.toml"))
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # as in an active environment


class Campaign(NamedTuple):
    """Of the name `mine`. folder: the copy of the example. code, out, err: of `start`. status: of `status --json`."""

    folder: Path
    code: int
    out: str
    err: str
    status: dict

    def culprits(self):
        """{metric: the flags of each culprit}"""
        return {metric: [one["flags"] for one in found] for metric, found in self.status["culprits"].items()}

    def has_crashed(self, trial):
        """Whether an attempt of a run did."""
        attempts = (self.folder / "runs" / "mine" / "trials" / trial["id"]).glob("attempt-*/stderr.txt")
        return any("Stale file handle" in path.read_text() for path in attempts)


def call(folder, *words):
    """maskrcnn-bisect in a folder: exit code, output, error output."""
    argv = [sys.executable, "-c", COMMAND, "null", *words]
    env = {**os.environ, "PATH": PATH, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def copy(example, folder):
    """An example in a folder of its own, as a git repository."""
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    shutil.copy(EXAMPLES / ".gitignore", folder)
    who = ["-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def bisect(folder, *words):
    """The Campaign of all flags of the training in a folder."""
    code, out, err = call(folder, "start", "--trainer", "bisect.toml", "--flags", "all", "--name", "mine", *words)
    status = call(folder, "status", "mine", "--json")
    assert status[0] == 0, f"{out}\n{err}\n{status[2]}"
    return Campaign(folder, code, out, err, json.loads(status[1]))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_example_knows_nothing_of_the_tool(folder):
    for path in folder.rglob("*.py"):
        assert "bisect" not in path.read_text(), path


def test_an_interacting_pair_of_six_flags_is_named_for_accuracy_and_loss(tmp_path):
    done = bisect(copy("digits-numpy", tmp_path / "digits"))
    assert done.code == 0, done.out + done.err
    assert done.culprits() == {"accuracy": [["accumulate", "scale-lr"]], "loss": [["accumulate", "scale-lr"]]}


def test_a_noisy_loss_is_bisected_although_runs_crash(tmp_path):
    done = bisect(copy("noisy-loss", tmp_path / "ratings"))
    assert done.code == 0, done.out + done.err
    assert done.culprits() == {"loss": [["FAST_SCATTER"]]}

    trials = done.status["trials"]
    assert [trial for trial in trials if done.has_crashed(trial)], done.out
    assert not [trial for trial in trials if trial["state"] == "crashed"], done.out
    for trial in trials:
        if trial["state"] == "finished":
            assert trial["metrics"]["loss"] == loss_without_a_crash(done.folder, trial, tmp_path / trial["id"]), trial


def loss_without_a_crash(folder, trial, out):
    """The last loss that a run prints which nothing interrupts."""
    argv = [sys.executable, "train.py", "--seed", str(trial["seed"]), "--out", str(out)]
    env = {**os.environ, **dict.fromkeys(trial["flags"], "1"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=True)
    return float(re.findall(r"loss (\S+)", done.stdout)[-1])


@pytest.mark.slow
@pytest.mark.training
def test_a_keras_training_is_bisected_in_copies_of_its_repository(tmp_path):
    folder = copy("keras", tmp_path / "shapes")
    done = bisect(folder)
    assert done.code == 0, done.out + done.err
    assert done.culprits() == {"accuracy": [["STREAMING"]]}

    for trial in done.status["trials"]:
        assert "FLOAT32_HEAD" not in trial["flags"] or "MIXED_PRECISION" in trial["flags"], trial
    copies = {path.parent.name for path in folder.glob("runs/mine/trials/*/tree")}
    resumable = {trial["id"] for trial in done.status["trials"] if trial["state"] in ("waiting", "cancelled")}
    assert copies <= resumable
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=folder, check=True, capture_output=True, text=True)
    assert changed.stdout == ""
