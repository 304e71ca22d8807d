"""What the tests of the controller and of the commands share: campaigns over tests/fake_trainer.py."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bisect_cli.analysis import analyse
from bisect_cli.campaign.settings import Settings
from bisect_cli.run import session
from bisect_cli.run.controller import Controller
from bisect_cli.run.recorder import Recorder
from bisect_cli.storage import eventlog, store
from bisect_cli.trainers.maskrcnn import TRAINER as MASK_RCNN

ROOT = Path(__file__).parents[1]
TRAINER = Path(__file__).with_name("fake_trainer.py")
BLOCK = ("ROI_ALIGN_MASK", "CROP_AND_RESIZE_MASK", "MASK_LOSS")
CHAIN = ("seq", "prev", "format", "all")  # what the log itself adds to its lines
COMMAND = "import json, sys; from bisect_cli.cli import main; main(obj=json.loads(sys.argv.pop(1)))"


class Bench:
    """A folder with a table of outcomes, and campaigns in it."""

    command = None  # in the place of the trainer

    def __init__(self, folder, **table):
        self.folder, self.runs = folder, folder / "runs"
        self.set(**table)

    def set(self, **table):
        (self.folder / "table.json").write_text(json.dumps(table))

    @property
    def trainer(self):
        return self.command or (sys.executable, str(TRAINER), str(self.folder / "table.json"))

    def beside(self, name, **table):
        """A Bench in a new folder of this one's."""
        (self.folder / name).mkdir()
        return Bench(self.folder / name, **table)

    def starts(self):
        """The runs that the trainer started, `flags seed` each, in order; TWICE marks one that was there already."""
        path = self.folder / "starts.txt"
        return path.read_text().splitlines() if path.exists() else []

    def settings(self, name="c", flags=BLOCK, **more):
        """The Settings of a campaign of this trainer. more: fields of them, and options of the trainer."""
        options = {option.name for option in MASK_RCNN.options} & set(more)
        spec = MASK_RCNN.spec({"trainer": self.trainer, **{option: more.pop(option) for option in options}})
        return Settings(name, spec, flags, **{"metrics": spec.default_metrics, "workdir": str(self.folder), **more})

    def run(self, name="c", flags=BLOCK, slots=2, listen=lambda event, state, analysis: None, **more):
        """Runs a campaign in this process until it ends; returns its State. more: keyword arguments of the Controller,
        and of `settings` for a new one.
        """
        changes = more.pop("changes", ())
        options = {
            key: more.pop(key) for key in ("max_runs", "parity", "patience", "grace", "hung", "detach") if key in more
        }
        folder = store.create(self.runs, name)
        known = store.load(folder)[0].settings
        with session.hold(folder, None if known else self.settings(name, flags, **more)) as (log, state):
            launcher = session.launcher_of(state.settings, slots)
            return Controller(Recorder(folder, log, state, listen), launcher, **options).run(changes)

    def spawn(self, *words, cwd=None):
        """maskrcnn-bisect in a process of its own, off a terminal. cwd: where, by default the folder."""
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, json.dumps(self.trainer), *words],
            cwd=cwd or self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Of tests run in the background a shell has SIGINT ignored, which children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def call(self, *words, cwd=None):
        """Exit code, output and error output of maskrcnn-bisect, run to its end."""
        process = self.spawn(*words, cwd=cwd)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    def status(self, name="c"):
        code, out, err = self.call("status", name, "--json")
        assert code == 0, err
        return json.loads(out)

    def events(self, name="c"):
        return eventlog.read(self.runs / name / store.LOG).events

    def ends(self, name="c"):
        """The events that say how attempts ended."""
        return [event for event in self.events(name) if event["kind"] == "ended"]

    def outcomes(self, name="c"):
        return [event["outcome"] for event in self.ends(name)]

    @contextlib.contextmanager
    def failing_on(self, node, variable):
        """Within, a training fails at once on this node, whose name is in this variable of its environment."""
        bad, before = self.folder / "bad.py", self.command
        bad.write_text(
            f"import os, sys\nif os.environ[{variable!r}] == {node!r}: sys.exit('no GPU')\n"
            f"os.execv(sys.executable, [sys.executable, {str(TRAINER)!r}, *sys.argv[1:]])\n"
        )
        self.command = (sys.executable, str(bad), str(self.folder / "table.json"))
        try:
            yield
        finally:
            self.command = before

    def claim(self, trial, attempt=1, name="c"):
        """What the agent of an attempt has noted as it began; None if it has not, or another claimed the attempt so
        that it never begins.
        """
        path = store.trial_folder(self.runs / name, trial) / f"attempt-{attempt}" / "claim.json"
        return json.loads(path.read_text() or "null") if path.exists() else None


def rewrite(folder, change):
    """Writes the log of a campaign anew, as somebody would who knows its format. change: of a record, None of one that
    is to go.
    """
    path = Path(folder) / store.LOG
    records = [dict(record) for record in eventlog.read(path).events]
    path.unlink()
    log = eventlog.Writer(path)
    for record in records:
        changed = change({key: value for key, value in record.items() if key not in CHAIN})
        if changed is not None:
            log.append(changed)
    log.close()


def results(state):
    """{(flags, seed): metrics} of all trials."""
    return {(trial.flags, trial.seed): trial.metrics for trial in state.trials.values()}


def check_named(bench, again=0, culprit="ROI_ALIGN_MASK"):
    """Of campaign "c", run by a scheduler: it has finished and names this culprit for segm, no run was there twice at a
    time, and so many were begun again after an end that they had no part in (None: any number). Returns its State.
    """
    state, _ = store.load(bench.runs / "c")
    assert state.state == "finished"
    assert [found.flags for found in analyse(state).plans["segm"].culprits] == [(culprit,)]
    assert not any(line.startswith("TWICE") for line in bench.starts())
    words = [(event["trial"], event["attempt"], event["outcome"], event.get("reason")) for event in bench.ends()]
    begun_again = [
        outcome
        for trial, attempt, outcome, _ in words
        if bench.claim(trial, attempt) and bench.claim(trial, attempt + 1)
    ]
    assert len(bench.starts()) - len(set(bench.starts())) <= len(begun_again), words
    # One that could no longer matter is resumed should it be wanted again: that hangs on which run ends first.
    assert again is None or len(begun_again) - begun_again.count("cancelled") == again, words
    return state


def wait_for(condition, seconds=120.0):
    """Waits until a condition holds; so long only where the machine is busy or the test is about to fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def has_ended(out):
    """Whether no training of the fake trainer is at work in this folder any more."""
    with open(out / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def kill(process):
    """SIGKILL, as a crash of the machine's user session would be."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
