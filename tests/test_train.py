"""Real trainings of a few seconds: the trainer contract from end to end."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from maskrcnn.data.shapes import CATEGORIES
from maskrcnn.pieces import PIECES

pytestmark = pytest.mark.slow

ALL = ",".join(PIECES)
SCORES = ("AP", "AP50", "AP75")
RUN = ["--flags", ALL, "--seed", "3", "--preset", "tiny", "--set", "steps=120", "--set", "save_every=40"]
RUN += ["--set", "log_every=10", "--set", "eval_every=40"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("train")


def command(*args):
    return [sys.executable, "-m", "maskrcnn", *map(str, args)]


def environment(**more):
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def run(work, *args):
    return subprocess.run(
        command(*args), cwd=work, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def curve(folder):
    """What does not depend on the clock."""
    return [{k: v for k, v in line.items() if k not in ("wall", "img_per_s")} for line in lines(folder)]


@pytest.fixture(scope="module")
def finished(work):
    done = run(work, "train", *RUN, "--out", "whole")
    assert done.returncode == 0, done.stderr
    return work / "whole"


def test_files_of_a_finished_run(finished):
    result = json.loads((finished / "result.json").read_text())
    assert (result["status"], result["step"], result["steps"], result["seed"]) == ("finished", 120, 120, 3)
    assert set(result["flags"]) == set(PIECES)
    assert {f"{kind}/{s}" for kind in ("bbox", "segm") for s in SCORES} <= set(result["metrics"])
    assert result["img_per_s"] > 0
    assert result["config"]["classes"] == len(CATEGORIES)
    assert result["hardware"]["threads"] == 1
    losses = [x for x in lines(finished) if "total_loss" in x]
    assert [x["step"] for x in losses] == list(range(10, 121, 10))
    parts = set(losses[0]) - {"step", "steps", "wall", "img_per_s", "total_loss"}
    assert losses[0]["total_loss"] == pytest.approx(sum(losses[0][p] for p in parts), rel=1e-4)
    assert losses[-1]["total_loss"] < losses[0]["total_loss"]
    evaluations = [x for x in lines(finished) if "bbox/AP" in x]
    assert [x["step"] for x in evaluations] == [40, 80, 120]
    assert {k: v for k, v in evaluations[-1].items() if "/" in k} == result["metrics"]
    assert [x["wall"] for x in lines(finished)] == sorted(x["wall"] for x in lines(finished))
    assert list((finished / "events").glob("events.out.tfevents.*"))
    assert len(list((finished / "checkpoints").glob("model-*.index"))) == 2


def test_stopped_and_killed_it_resumes_to_the_same_curve_and_weights(work, finished):
    tf = pytest.importorskip("tensorflow")
    out = work / "stopped"
    assert interrupted(work, out, signal.SIGTERM, after_lines=2) == 143
    assert interrupted(work, out, signal.SIGKILL, after_lines=7) == -signal.SIGKILL
    assert not (out / "result.json").exists()
    before = lines(out)

    assert run(work, "train", *RUN, "--out", out).returncode == 0
    assert lines(out)[: len(before)] == before
    assert curve(out) == curve(finished)
    weights = [tf.train.load_checkpoint(tf.train.latest_checkpoint(str(f / "checkpoints"))) for f in (finished, out)]
    names = [n for n in weights[0].get_variable_to_shape_map() if n.endswith(("/W", "/b", "/gamma", "/Adam_1"))]
    assert len(names) > 50
    for name in names:
        np.testing.assert_array_equal(weights[0].get_tensor(name), weights[1].get_tensor(name), err_msg=name)


def interrupted(work, out, signum, after_lines):
    """Trains in `out`, sends the signal once metrics.jsonl is that long, and returns the exit code."""
    log = work / "interrupted.log"
    with open(log, "w") as stderr:
        process = subprocess.Popen(command("train", *RUN, "--out", out), cwd=work, env=environment(), stderr=stderr)
    end = time.monotonic() + 120
    while not (out / "metrics.jsonl").exists() or (out / "metrics.jsonl").read_text().count("\n") < after_lines:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signum)
    return process.wait(timeout=300)


def test_finished_runs_return_at_once(work, finished):
    began = time.monotonic()
    done = run(work, "train", *RUN, "--out", "whole")
    assert done.returncode == 0
    assert time.monotonic() - began < 3


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(work):
    changes = ["--set", "lr=1e30", "--set", "clip_norm=0", "--set", "warmup=0", "--set", "steps=50"]
    done = run(work, "train", "--flags", ALL, "--preset", "tiny", *changes, "--out", "diverged")
    assert done.returncode == 0, done.stderr
    result = json.loads((work / "diverged" / "result.json").read_text())
    assert result["status"] == "diverged"
    assert 0 < result["step"] < 50
    assert result["metrics"] == {}
    assert "diverged" in done.stderr


def test_evaluate_scores_the_checkpoint_as_the_run_did(work, finished):
    done = run(work, "evaluate", finished, "--json")
    assert done.returncode == 0, done.stderr
    scores, expected = json.loads(done.stdout), json.loads((finished / "result.json").read_text())["metrics"]
    assert scores.keys() == expected.keys()
    assert scores == pytest.approx(expected, abs=1e-4)


def test_predict_draws_pictures_of_the_images_size(work, finished):
    cv2 = pytest.importorskip("cv2")
    images = sorted((work / "runs/data").glob("*/val/*.png"))[:3]
    done = run(work, "predict", finished, *images, "--to", "pictures", "--threshold", "0.05")
    assert done.returncode == 0, done.stderr
    for image in images:
        picture = cv2.imread(str(work / "pictures" / f"{image.stem}.detected.png"))
        assert picture.shape == cv2.imread(str(image)).shape


def test_a_broken_data_pipeline_is_a_crash_that_shows_its_cause(work):
    (work / "broken_flow.py").write_text(
        "from maskrcnn.components.data_pipeline import Stream, _all_at_once\n"
        "def broken(dataset, config, indices, rng):\n"
        "    raise ZeroDivisionError('no such batch')\n"
        "def pipeline(dataset, config, seed, first_step):\n"
        "    return Stream(broken, dataset, config, seed, first_step)\n"
    )
    plant = ["--flags", ALL, "--plant", "DATA_PIPELINE=broken_flow:pipeline"]
    done = run(work, "train", "--preset", "tiny", *plant, "--out", "broken")
    assert done.returncode == 1
    assert "no such batch" in done.stderr
    assert not (work / "broken" / "result.json").exists()
