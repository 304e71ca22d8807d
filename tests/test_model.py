"""The model as wired from the pieces: combinations of the two implementations compute and learn the same, at any batch
size.
"""

import functools
import itertools

import numpy as np
import pytest
from combinations import TERMS, batches, covering_triples, dataset, detect, disagreement, train

from maskrcnn.faults import parse_plants
from maskrcnn.pieces import PIECES

ALL = tuple(PIECES)
TOLERANCE = 1e-4  # relative; seen: 1e-6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def reference(data):
    """The outcome of all flags off, by batch size."""
    return functools.lru_cache(None)(lambda b: train((), batches((), data, b)))


def test_every_three_flags_occur_in_all_eight_states():
    rows = np.array([[f in flags for f in PIECES] for flags in covering_triples()])
    for three in itertools.combinations(range(len(PIECES)), 3):
        assert len(np.unique(rows[:, three], axis=0)) == 8


@pytest.mark.parametrize("b", [1, 4])
def test_images_of_a_batch_are_of_unequal_sizes(data, b):
    sizes = np.concatenate([feed[1] for feed in batches((), data, b)])
    assert len(np.unique(sizes, axis=0)) > 1


@pytest.mark.parametrize("b", [1, 4])
def test_both_data_pipelines_make_the_same_batches(data, b):
    for one, other in zip(batches((), data, b), batches(ALL, data, b)):
        for x, y in zip(one, other):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("flags", [*covering_triples()[1:], ALL], ids=lambda flags: f"{len(flags)}on")
@pytest.mark.parametrize("b", [1, 4])
def test_combinations_step_alike(data, reference, flags, b):
    outcome = train(flags, batches(flags, data, b))
    for losses in outcome.losses:
        assert sorted(losses) == sorted(name for names in TERMS.values() for name in names)
        assert all(np.isfinite(v) and v > 0 for v in losses.values())
    assert outcome.moved > 0.01
    assert max(disagreement(outcome, reference(b))) < TOLERANCE


def test_a_fault_shows_as_disagreement(data, reference):
    plants = parse_plants(["FAST_RCNN_LOSSES=fg_index_mixup"])
    outcome = train(ALL, batches(ALL, data, 4), plants)
    assert max(disagreement(outcome, reference(4))) > 100 * TOLERANCE


def test_combinations_detect_alike(data):
    feed = batches((), data, 2)[0]
    expected, needs = detect((), feed)
    r = len(expected.scores)
    assert r > 0 and expected.rois.boxes.shape == (r, 5) and expected.rois.counts.sum() == r
    assert expected.masks.shape[0] == r and ((expected.masks >= 0) & (expected.masks <= 1)).all()
    for flags in {tuple(f for f in needs if f in flags) for flags in covering_triples()} - {()}:
        found, _ = detect(flags, feed)
        np.testing.assert_array_equal(found.rois.counts, expected.rois.counts)
        np.testing.assert_array_equal(found.rois.labels, expected.rois.labels)
        np.testing.assert_allclose(found.rois.boxes, expected.rois.boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=TOLERANCE)
        np.testing.assert_allclose(found.masks, expected.masks, rtol=TOLERANCE)
