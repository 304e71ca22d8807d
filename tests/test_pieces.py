"""The two forms of every piece compute the same, at B=1 and B=3, with images of unequal size and unequal objects."""

import importlib

import numpy as np
import pytest
from canonical import Inputs, run

from maskrcnn.faults import FAULTS
from maskrcnn.pieces import PIECES
from maskrcnn.structures import BoxOutputs


def arguments(flag, inputs):
    """Random arguments and keywords for a piece."""
    if flag == "RPN_HEAD":
        return [inputs.features()], {}
    if flag == "RPN_LOSS":
        return [inputs.rpn(), inputs.rpn_targets()], {}
    if flag == "GENERATE_PROPOSALS":
        return [inputs.rpn()], {"training": True}
    if flag in ("ROI_ALIGN_BOX", "ROI_ALIGN_MASK"):
        return [inputs.features(), inputs.rois()], {"training": True}
    truth = inputs.ground_truth()
    rois = inputs.rois(truth, foreground=flag in ("CROP_AND_RESIZE_MASK", "MASK_LOSS"))
    if flag == "SAMPLE_TARGETS":
        return [inputs.rois(), truth], {"seed": np.array([3, 1], np.int32)}
    if flag == "FAST_RCNN_OUTPUTS":
        return [inputs.rows(rois, 10), rois], {}
    if flag == "FAST_RCNN_LOSSES":
        k = inputs.config.classes
        return [BoxOutputs(inputs.rows(rois, k + 1), inputs.rows(rois, k, 4)), rois, truth], {}
    if flag == "CROP_AND_RESIZE_MASK":
        return [truth, rois], {}
    m = 2 * inputs.config.mask_crop
    targets = (inputs.rows(rois, m, m) > 0).astype(np.float32)
    return [inputs.rows(rois, m, m, inputs.config.classes), targets, rois], {}


DETERMINISTIC = [f for f in PIECES if f not in ("DATA_PIPELINE", "SAMPLE_TARGETS")]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b):
        np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("b", [1, 3])
@pytest.mark.parametrize("flag", DETERMINISTIC)
def test_forms_agree_in_value_and_gradient(flag, b):
    piece = PIECES[flag]
    for seed in range(2):
        inputs = Inputs(seed, b)
        args, keywords = arguments(flag, inputs)
        value, gradient = run(piece.implementation(False), inputs, *args, **keywords)
        other_value, other_gradient = run(piece.implementation(True), inputs, *args, **keywords)
        assert any(np.abs(v).sum() > 0 for v in value)
        assert_same(value, other_value)
        assert_same(gradient, other_gradient)
        if flag not in ("GENERATE_PROPOSALS", "CROP_AND_RESIZE_MASK"):  # the two without a gradient
            assert any(np.abs(g).sum() > 0 for g in gradient)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("flag", DETERMINISTIC)
def test_more_padding_changes_nothing(flag, batched):
    piece = PIECES[flag].implementation(batched)
    results = []
    for extra in (0, 32):
        inputs = Inputs(5, extra=extra)
        args, keywords = arguments(flag, inputs)
        value, _ = run(piece, inputs, *args, **keywords)
        results.append([v[:, : 96 // 32, : 96 // 32] if flag == "RPN_HEAD" else v for v in value])
    assert_same(*results)


@pytest.mark.parametrize("fault", [f for f in FAULTS.values() if f.flag in DETERMINISTIC], ids=lambda f: f.name)
def test_a_fault_differs_from_the_piece_it_breaks(fault):
    # Scores low enough and limits tight enough that a choice across levels or images matters.
    inputs = Inputs(1, proposals=10, proposals_per_level=30)
    args, keywords = arguments(fault.flag, inputs)
    module, _, name = fault.target.partition(":")
    broken = getattr(importlib.import_module(module), name)
    good = PIECES[fault.flag].implementation(True)
    value, gradient = run(good, inputs, *args, **keywords)
    bad_value, bad_gradient = run(broken, inputs, *args, **keywords)
    same = [a.shape == b.shape and np.allclose(a, b, atol=1e-4) for a, b in zip(value, bad_value)]
    assert not all(same)


def test_half_pixel_train_is_right_in_evaluation():
    inputs = Inputs(1)
    args, _ = arguments("ROI_ALIGN_MASK", inputs)
    broken = importlib.import_module("maskrcnn.components.roi_align_mask").half_pixel_train
    good = PIECES["ROI_ALIGN_MASK"].implementation(True)
    evaluated, _ = run(broken, inputs, *args, training=False)
    assert_same(evaluated, run(good, inputs, *args, training=False)[0])


# SAMPLE_TARGETS draws at random: its two forms agree in what may be drawn, how much, and how often.


@pytest.mark.parametrize("batched", [False, True])
def test_sampled_rois_are_matched_and_ordered(batched):
    piece = PIECES["SAMPLE_TARGETS"].implementation(batched)
    inputs = Inputs(2, roi_samples=16)
    args, _ = arguments("SAMPLE_TARGETS", inputs)
    proposals, truth = args
    (boxes, counts, labels, index), _ = run(piece, inputs, *args, seed=np.array([1, 2], np.int32))
    assert counts.sum() == len(boxes)
    assert (boxes[:, 0] == np.repeat(np.arange(3), counts)).all()
    for i in range(3):
        own = boxes[:, 0] == i
        fg = labels[own] > 0
        assert (np.diff(fg.astype(int)) <= 0).all()  # foreground first
        assert fg.sum() <= 16 * inputs.config.roi_fg_fraction
        overlaps = iou(boxes[own][:, 1:], truth.boxes[i, : truth.counts[i]])
        best = overlaps.max(axis=1, initial=0)
        assert ((best >= inputs.config.roi_fg_iou) == fg).all()
        if truth.counts[i]:
            matched = index[own][fg]
            assert (matched == overlaps.argmax(axis=1)[fg]).all()
            assert (labels[own][fg] == truth.labels[i][matched]).all()
        assert (index[own][~fg] == -1).all()
        pool = np.concatenate([proposals.boxes[proposals.boxes[:, 0] == i][:, 1:], truth.boxes[i, : truth.counts[i]]])
        drawn = {tuple(b) for b in boxes[own][:, 1:]}
        assert drawn <= {tuple(b) for b in pool} and len(drawn) == own.sum()  # without replacement
        candidates = (
            iou(pool, truth.boxes[i, : truth.counts[i]]).max(axis=1, initial=0) >= inputs.config.roi_fg_iou
        ).sum()
        n_fg = min(candidates, int(16 * inputs.config.roi_fg_fraction))
        assert (fg.sum(), counts[i]) == (n_fg, n_fg + min(len(pool) - candidates, 16 - n_fg))


@pytest.mark.parametrize("batched", [False, True])
def test_every_candidate_is_drawn_equally_often(batched):
    piece = PIECES["SAMPLE_TARGETS"].implementation(batched)
    inputs = Inputs(4, roi_samples=8)
    args, _ = arguments("SAMPLE_TARGETS", inputs)
    proposals, truth = args
    seen, drawn_bg, runs = {}, np.zeros(3), 150
    for _, (boxes, _, labels, _) in zip(range(runs), sample_many(piece, inputs, args, runs)):
        for row, label in zip(boxes, labels):
            if label == 0:
                seen[tuple(row)] = seen.get(tuple(row), 0) + 1
                drawn_bg[int(row[0])] += 1
    for i in range(3):
        counts = np.array([n for row, n in seen.items() if row[0] == i])
        background = len(counts)
        p = drawn_bg[i] / runs / background
        if p > 0.99:
            continue
        deviation = np.sqrt(runs * p * (1 - p))
        assert np.abs(counts - runs * p).max() < 4.5 * deviation


def sample_many(piece, inputs, args, n):
    for k in range(n):
        yield run(piece, inputs, *args, seed=np.array([11, k], np.int32))[0]


def iou(a, b):
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inter = np.maximum(size, 0).prod(-1)
    area = [np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b)]
    return inter / np.maximum(area[0][:, None] + area[1] - inter, 1e-9)


def test_no_shuffle_takes_the_first():
    inputs = Inputs(2, roi_samples=8)
    args, _ = arguments("SAMPLE_TARGETS", inputs)
    broken = importlib.import_module("maskrcnn.components.sample_targets").no_shuffle
    draws = [run(broken, inputs, *args, seed=np.array([k, 0], np.int32))[0][0] for k in range(3)]
    assert_same([draws[0]] * 2, draws[1:])
