"""The model as wired from the pieces: any combination builds and learns, at any batch size, with unequal images."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from maskrcnn.components import implementations
from maskrcnn.config import preset
from maskrcnn.data import coco, shapes
from maskrcnn.inputs import specs, unpack
from maskrcnn.model import MaskRCNN
from maskrcnn.pieces import PIECES
from maskrcnn.tf1 import tfv1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return coco.load(shapes.ensure(tmp_path_factory.mktemp("data"), 12, 6, 0), "train")


def covering_pairs(rng):
    """Flag sets in which every pair of flags occurs in all four states, chosen greedily."""
    n = len(PIECES)
    missing = set(itertools.product(itertools.combinations(range(n), 2), itertools.product((0, 1), repeat=2)))
    while missing:
        rows = rng.integers(0, 2, (200, n))
        covered = [{((i, j), (r[i], r[j])) for i, j in itertools.combinations(range(n), 2)} & missing for r in rows]
        best = max(range(len(rows)), key=lambda k: len(covered[k]))
        missing -= covered[best]
        yield tuple(f for f, on in zip(PIECES, rows[best]) if on)


def train_steps(flags, dataset, b, n=2):
    """Losses {name: value} of n steps from the same weights and data, and the detections after them."""
    config = dataclasses.replace(preset("tiny"), batch=b, width=8, blocks=(1, 1, 1, 1))
    with tf.Graph().as_default():
        tfv1.set_random_seed(7)
        pieces = implementations(flags)
        placeholders = [tfv1.placeholder(s.dtype, s.shape, s.name) for s in specs(config)]
        batch, step = unpack(placeholders), tfv1.placeholder(tf.int32, [])
        model = MaskRCNN(config, pieces)
        losses = model.losses(batch, step)
        update = tfv1.train.AdamOptimizer(1e-3).minimize(tf.add_n(list(losses.values())))
        found = model.detect(batch.images)
        stream = iter(pieces["DATA_PIPELINE"](dataset, config, 0, 0))
        with tfv1.Session() as session:
            session.run(tfv1.global_variables_initializer())
            values = []
            for k in range(n):
                feed = dict(zip(placeholders, next(stream)))
                values.append(session.run((losses, update), {**feed, step: k})[0])
            return values, session.run(found, feed)


COMBINATIONS = list(covering_pairs(np.random.default_rng(0)))


@pytest.mark.parametrize("i", range(len(COMBINATIONS)))
def test_combinations_of_pieces_train(dataset, i):
    values, found = train_steps(COMBINATIONS[i], dataset, b=(1, 2, 4)[i % 3])
    for losses in values:
        assert set(losses) == {"rpn_class", "rpn_box", "box_class", "box_box", "mask"}
        assert all(np.isfinite(v) for v in losses.values())
        assert losses["rpn_class"] > 0 and losses["box_class"] > 0 and losses["mask"] > 0
    r = len(found.scores)
    assert found.rois.boxes.shape == (r, 5) and found.rois.counts.sum() == r
    assert found.masks.shape[0] == r and ((found.masks >= 0) & (found.masks <= 1)).all()


def test_all_off_and_all_on_start_from_the_same_losses(dataset):
    # What is drawn at random (anchors and RoIs in the loss) differs between the two forms; on average it does not.
    off, on = (train_steps(flags, dataset, b=4, n=1)[0][0] for flags in ((), tuple(PIECES)))
    for name in ("rpn_class", "box_class", "mask"):
        assert off[name] == pytest.approx(on[name], rel=0.2), name


def test_deterministic_pieces_start_from_equal_losses(dataset):
    random = {"DATA_PIPELINE", "SAMPLE_TARGETS"}
    off, on = (train_steps(f, dataset, b=2, n=1)[0][0] for f in ((), tuple(f for f in PIECES if f not in random)))
    for name, value in off.items():
        assert on[name] == pytest.approx(value, rel=1e-3), name
