"""A whole bisect over real, very short trainings: a piece of the user's own that makes the loss NaN is found."""

import json
import subprocess
import sys

import pytest

PIECE = '''
import tensorflow as tf

from maskrcnn.components.mask_loss import batched


def log_of_zero(hw, logits, targets, rois, *, config):
    """MASK_LOSS with the entropy of its targets added, by hand: 0 * log(0) where a target is 1."""
    entropy = -tf.reduce_mean((1 - targets) * tf.math.log(1 - targets))
    return batched(hw, logits, targets, rois, config=config) + entropy
'''


@pytest.mark.training
@pytest.mark.slow
def test_a_diverging_piece_is_named(tmp_path):
    (tmp_path / "own_piece.py").write_text(PIECE)

    def cli(*words):
        return subprocess.run(
            [sys.executable, "-m", "bisect_cli", *words], cwd=tmp_path, capture_output=True, text=True
        )

    plant = "MASK_LOSS=own_piece:log_of_zero"
    words = ["--flags", "CROP_AND_RESIZE_MASK,BATCH_MASK_LOSS", "--plant", plant, "--preset", "tiny", "--seeds", "2"]
    start = cli("start", "--name", "nan", *words, "--slots", "2")
    assert start.returncode == 0, start.stdout + start.stderr

    status = json.loads(cli("status", "nan", "--json").stdout)
    assert status["state"] == "finished"
    for metric in ("bbox", "segm"):
        (culprit,) = status["culprits"][metric]
        assert culprit["flags"] == ["MASK_LOSS"] and culprit["confidence"] > 0.9
    by_flags = {}
    for trial in status["trials"]:
        by_flags.setdefault(tuple(trial["flags"]), []).append(trial["state"])
    assert set(by_flags[()]) == {"finished"} and len(by_flags[()]) >= 2
    assert set(by_flags[("MASK_LOSS",)]) == {"diverged"}
    assert "finished" in by_flags[("CROP_AND_RESIZE_MASK",)]

    again = cli("start", "--name", "nan", *words)
    assert again.returncode == 0
    assert len(json.loads(cli("status", "nan", "--json").stdout)["trials"]) == len(status["trials"])
