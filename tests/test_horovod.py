"""Two ranks on this machine. Skipped where Horovod is not installed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from maskrcnn.pieces import PIECES

pytest.importorskip("horovod")
pytestmark = pytest.mark.slow

RUN = ["--flags", ",".join(PIECES), "--preset", "tiny", "--np", "2", "--set", "steps=60", "--set", "save_every=30"]
RUN += ["--set", "log_every=10"]


def start(work, out, *args):
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "maskrcnn", "train", *RUN, *args, "--out", str(out)],
        cwd=work,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(out):
    path = out / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_two_ranks_stop_together_resume_and_finish(tmp_path):
    out = tmp_path / "run"
    process = start(tmp_path, out)
    end = time.monotonic() + 180
    while not lines(out):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert not (out / "result.json").exists()
    assert (out / "checkpoints" / "checkpoint").exists()

    process = start(tmp_path, out)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    result = json.loads((out / "result.json").read_text())
    assert (result["status"], result["step"], result["np"]) == ("finished", 60, 2)
    assert "bbox/AP" in result["metrics"]
    assert [x["step"] for x in lines(out) if "total_loss" in x] == [10, 20, 30, 40, 50, 60]
    assert "resuming after step" in said
    assert len(list((out / "events").iterdir())) == 2  # one file for either start: only rank 0 writes
