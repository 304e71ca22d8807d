"""The benchmark really measures, with the smallest model there is; how fast that is, no test can say."""

import json
import subprocess
import sys

import pytest


def run(root, tmp_path, script, *args):
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks" / script), *args], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_trainings_take_turns_and_are_distinguished(root, tmp_path):
    args = ["--part=steps", "--model=tiny", "--batch=1", "--rounds=2", "--seconds=0.3", "--threads=1"]
    (tmp_path / "speed.md").write_text("What it means.\n\n<!-- measured -->\n\nold figures\n")
    out = run(root, tmp_path, "train_throughput.py", *args, "--json=speed.json", "--write=speed.md")
    found = json.loads((tmp_path / "speed.json").read_text())
    figures = found["steps"]["tiny"]["1"]
    for side in ("off", "on"):
        assert len(figures[f"{side}_img_per_s"]) == 2 and min(figures[f"{side}_img_per_s"]) > 0
        assert figures[f"{side}_peak_mib"] > 100
    ratios = [on / off for on, off in zip(figures["on_img_per_s"], figures["off_img_per_s"])]
    assert min(ratios) <= figures["ratio"] <= max(ratios)
    row = next(line for line in out.splitlines() if line.startswith("| tiny, 1 |"))
    assert f"**{figures['ratio']:.2f}**" in row
    written = (tmp_path / "speed.md").read_text()
    assert written.startswith("What it means.") and row in written and "old figures" not in written


def test_a_graph_from_the_inside(root, tmp_path):
    found = json.loads(run(root, tmp_path, "training_graph.py", "--preset=tiny", "--flags=all", "--steps=2"))
    assert 0 < found["gflop_an_image"] < 1
    assert found["gflop_an_image"] * found["img_per_s"] < found["matrix_gflops"]
    assert found["data_img_per_s"] > 0 and found["operations"] > 1000
    for shares in (found["by_kind"], found["by_part"]):
        assert sum(shares.values()) == pytest.approx(1)
    assert any("Conv2D" in kind for kind in list(found["by_kind"])[:5])
    assert {"resnet", "fpn", "rpn_head", "mask_head", "optimizer"} <= set(found["by_part"])


def test_operations_are_counted_as_by_hand(root, monkeypatch):
    monkeypatch.syspath_prepend(root / "benchmarks")
    from training_graph import flop_counts

    # isort: split
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 8, 10, 3])
        kernel, weights = tf.ones([5, 5, 3, 4]), tf.ones([4, 7])
        y = tf.matmul(tf.reshape(tf.nn.conv2d(x, kernel, 2, "SAME"), [-1, 4]), weights)
        tf.gradients(y, [x, kernel, weights])
        with tf.compat.v1.Session() as session:
            counts = session.run(flop_counts(graph), {x: [[[[0.0] * 3] * 10] * 8] * 2})
    convolution, product = 2 * (2 * 4 * 5 * 4) * (5 * 5 * 3), 2 * (2 * 4 * 5) * 4 * 7
    assert sorted(counts.values()) == sorted([convolution] * 3 + [product] * 3)  # forward, and both gradients
