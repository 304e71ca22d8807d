"""Two ranks on this machine. Skipped where Horovod is not installed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from maskrcnn.horovod_run import LAUNCHER
from maskrcnn.pieces import PIECES
from maskrcnn.settings import horovodrun, parse

pytest.importorskip("horovod")
psutil = pytest.importorskip("psutil")  # comes with horovod
pytestmark = pytest.mark.slow

RUN = ["--flags", ",".join(PIECES), "--preset", "tiny", "--set", "steps=60", "--set", "save_every=5"]
RUN += ["--set", "log_every=5"]


def environment():
    path = os.pathsep.join([os.path.dirname(__file__), os.getcwd(), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def start(work, out, *args):
    return subprocess.Popen(
        [sys.executable, "-m", "maskrcnn", "train", *RUN, *args, "--out", str(out)],
        cwd=work,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(out):
    path = out / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_a_line(process, out):
    before, end = len(lines(out)), time.monotonic() + 180
    while len(lines(out)) == before:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)


def processes(launcher):
    """Those that came from the launcher of that process id: {process: its environment}."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(LAUNCHER) == str(launcher):
                found[process] = process.environ()
    return found


def rank(launcher, number):
    """The process of a rank."""
    (found,) = (p for p, e in processes(launcher).items() if e.get("HOROVOD_RANK") == str(number))
    return found


def end(process, code):
    """What the process printed until it ended with that exit code."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    return said


def test_ranks_stop_together_change_in_number_die_and_finish(tmp_path):
    tf = pytest.importorskip("tensorflow")
    out = tmp_path / "run"
    process = start(tmp_path, out, "--np", "2")
    wait_for_a_line(process, out)
    process.send_signal(signal.SIGTERM)
    end(process, 143)
    assert not (out / "result.json").exists()
    path = tf.train.latest_checkpoint(str(out / "checkpoints"))
    (name,) = (name for name, _ in tf.train.list_variables(path) if name.startswith("progress"))
    steps, (_, _, images, *_) = (tf.train.load_variable(path, key) for key in ("global_step", name))
    assert images == 2 * 2 * (steps - 1)  # for the speed: those of all ranks, without the first step of a process

    process = start(tmp_path, out, "--np", "1")
    wait_for_a_line(process, out)
    process.send_signal(signal.SIGTERM)
    said = end(process, 143)
    assert "1 from here on instead of 2; a step sees 2 images instead of 4" in said
    assert "--batch 4 would keep 4" in said
    assert "resuming after step" in said

    process = start(tmp_path, out, "--np", "2", "--batch", "1")
    wait_for_a_line(process, out)
    began = time.monotonic()
    rank(process.pid, 1).kill()
    said = end(process, 1)
    assert time.monotonic() - began < 60
    assert not processes(process.pid)
    assert "2 from here on instead of 1; a step still sees 2 images" in said
    last = said.splitlines()[-1]
    assert last.startswith("rank 1 died (signal 9, ")
    assert f"resumes after step {lines(out)[-1]['step']}" in last
    assert "Traceback" not in said

    process = start(tmp_path, out, "--np", "2", "--batch", "1")
    end(process, 0)
    result = json.loads((out / "result.json").read_text())
    assert (result["status"], result["step"], result["np"], result["batch"]) == ("finished", 60, 2, 1)
    assert "bbox/AP" in result["metrics"]
    assert [x["step"] for x in lines(out) if "total_loss" in x] == list(range(5, 61, 5))
    assert len(list((out / "events").iterdir())) == 4  # one file for each start: only rank 0 writes


def test_which_other_ranks_may_resume_a_run():
    run = parse(preset_name="tiny", ranks=2)
    assert run.differences(parse(preset_name="tiny", ranks=1)) == []
    assert run.differences(parse(preset_name="tiny", ranks=1, batch=4)) == []
    assert run.differences(parse(preset_name="tiny", ranks=1, batch=3)) == ["batch=2 instead of 3"]
    run = parse(preset_name="coco", ranks=8)  # whose schedule goes by images
    assert run.differences(parse(preset_name="coco", ranks=4, batch=4)) == []
    differing = run.differences(parse(preset_name="coco", ranks=4))
    assert sorted(text.partition("=")[0] for text in differing) == ["lr", "steps"]


def test_an_error_in_one_rank_ends_all_of_them(tmp_path):
    (tmp_path / "failing.py").write_text(
        "import os\n"
        "from maskrcnn.components.mask_loss import batched\n"
        "if os.environ['HOROVOD_RANK'] == '1':\n"
        "    raise ZeroDivisionError('no such loss')\n"
    )
    process = start(tmp_path, tmp_path / "run", "--np", "2", "--plant", "MASK_LOSS=failing:batched")
    said = end(process, 1)
    assert not processes(process.pid)
    last = said.splitlines()[-1]
    assert last.startswith("rank 1 failed (ZeroDivisionError: no such loss); ")
    assert "nothing was saved yet" in last


GRADIENT = """
import sys
from pathlib import Path

import horovod.tensorflow as hvd
import numpy as np
from combinations import batches, dataset, train

from maskrcnn.horovod_trainer import Ranks
from maskrcnn.pieces import PIECES
from maskrcnn.tf1 import tf, tfv1

ranks = Ranks()
flags = tuple(PIECES)
(whole,) = batches(flags, dataset(Path(sys.argv[1])), 4, 1)
mine = train(flags, [[array[2 * ranks.rank : 2 * ranks.rank + 2] for array in whole]])
names = sorted(mine.losses[0])
((gradient, _),) = ranks.trainer(1).allreduce([(tf.constant(mine.gradient), None)])
losses = ranks.mean(tf.constant([mine.losses[0][name] for name in names]))
with tfv1.Session() as session:
    gradient, losses = session.run((gradient, losses))
if ranks.rank == 0:
    one = train(flags, [whole])
    assert np.linalg.norm(mine.gradient - one.gradient) > 0.01 * np.linalg.norm(one.gradient)
    np.testing.assert_allclose(losses, [one.losses[0][name] for name in names], rtol=1e-4)
    error = np.linalg.norm(gradient - one.gradient) / np.linalg.norm(one.gradient)
    assert error < 1e-4, error
    print("relative error", error)
"""


def test_two_ranks_have_the_gradient_of_one_with_all_their_images(tmp_path):
    (tmp_path / "gradient.py").write_text(GRADIENT)
    command = [horovodrun(), "-np", "2", "--gloo", sys.executable, "gradient.py", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "relative error" in done.stdout
