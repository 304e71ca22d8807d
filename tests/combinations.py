"""Every combination of the pieces' two implementations computes the same: a small problem in which nothing is left to
chance.

Two pieces draw at random, and their two implementations draw differently. Here they are asked for at least as many
anchors and RoIs as there are, so that both implementations take them all, and the losses and gradients of all
combinations can be compared.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from maskrcnn.components import implementations
from maskrcnn.config import preset
from maskrcnn.data import coco, shapes
from maskrcnn.inputs import specs, unpack
from maskrcnn.model import MaskRCNN
from maskrcnn.pieces import PIECES
from maskrcnn.tf1 import session_config, tfv1

# The losses in groups that share no piece after SAMPLE_TARGETS. Their sum is what is trained on.
TERMS = {"rpn": ("rpn_class", "rpn_box"), "box": ("box_class", "box_box"), "mask": ("mask",)}

SIDE = 128  # of every batch once padded
CONFIG = dataclasses.replace(
    preset("tiny"),
    fpn_channels=8,
    gn_groups=4,
    box_fc=16,
    box_crop=3,
    mask_crop=4,
    rpn_samples=3 * sum((SIDE // s) ** 2 for s in preset("tiny").strides),  # every anchor
    proposals_per_level=12,
    proposals=24,
    roi_samples=64,  # at most half of them foreground, which 24 proposals and 6 objects stay below
    roi_fg_iou=0.3,  # of proposals as yet untrained some are foreground
)
RATE = 0.1  # of plain gradient descent: large enough that losses of the second step show a wrong gradient of the first


def dataset(folder):
    """Images of several sizes, all of them padded to SIDE x SIDE."""
    found = coco.load(shapes.ensure(folder, 24, 1, 0), "train")
    fitting = [r for r in found.records if min(r.height, r.width) > SIDE - max(CONFIG.strides)]
    return dataclasses.replace(found, records=fitting)


def covering_triples():
    """12 flag sets in which every three flags occur in all eight states, the empty set first.

    The construction of Paley (1933) by the squares modulo 11, known from the designs of Plackett and Burman.
    """
    n = len(PIECES)
    assert n == 11
    squares = {k * k % n for k in range(n)}
    return [(), *(tuple(f for j, f in enumerate(PIECES) if (j - i) % n in squares) for i in range(n))]


class Outcome(NamedTuple):
    """What two steps of one combination gave."""

    losses: list  # {name: value} of either step
    gradient: np.ndarray  # of the first step, for all weights in one vector
    needs: dict  # {term: the flags of the pieces that it is computed with}
    moved: float  # the largest change of a weight in both steps together


def batches(flags, data, b, n=2):
    """The arrays of the first n steps, as the DATA_PIPELINE of this combination makes them."""
    stream = implementations(flags)["DATA_PIPELINE"](data, dataclasses.replace(CONFIG, batch=b), 0, 0)
    return list(itertools.islice(stream, n))


def train(flags, feeds, plants=None):
    """Builds the combination for the batch size of `feeds` and steps once on each of them. Returns an Outcome."""
    with tf.Graph().as_default():
        model, placeholders = _model(flags, feeds, plants)
        step = tfv1.placeholder(tf.int32, [])
        losses = model.losses(unpack(placeholders), step)
        variables = tfv1.trainable_variables()
        gradients = tfv1.gradients(tf.add_n(list(losses.values())), variables)
        steps = [v.assign_sub(RATE * g) for v, g in zip(variables, gradients)]
        flat = tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)
        with tfv1.Session(config=_as_built()) as session:
            session.run(tfv1.global_variables_initializer())
            before = session.run(variables)
            found = []
            for i, feed in enumerate(feeds):
                found.append(session.run((losses, flat, steps), {**dict(zip(placeholders, feed)), step: i}))
            moved = max(np.abs(a - b).max() for a, b in zip(before, session.run(variables)))
        needs = {term: _flags_before(*(losses[name] for name in names)) for term, names in TERMS.items()}
        return Outcome([f[0] for f in found], found[0][1], needs, moved)


def detect(flags, feed):
    """(Detections of the untrained model on one batch, the flags of the pieces that they are computed with)."""
    with tf.Graph().as_default():
        model, placeholders = _model(flags, [feed])
        found = model.detect(unpack(placeholders).images)
        with tfv1.Session(config=_as_built()) as session:
            session.run(tfv1.global_variables_initializer())
            return session.run(found, dict(zip(placeholders, feed))), _flags_before(found.masks)


def _model(flags, feeds, plants=None):
    tfv1.set_random_seed(7)
    config = dataclasses.replace(CONFIG, batch=len(feeds[0][0]))
    placeholders = [tfv1.placeholder(s.dtype, s.shape, s.name) for s in specs(config)]
    return MaskRCNN(config, implementations(flags, plants)), placeholders


def _as_built():
    """Runs graphs as they were built: TensorFlow would spend more on rewriting one than two steps of it cost."""
    config = session_config(1)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def _flags_before(*tensors):
    """The flags of the pieces that `tensors` are computed with, read from the graph."""
    seen, waiting = set(), [t.op for t in tensors]
    while waiting:
        op = waiting.pop()
        if op not in seen:
            seen.add(op)
            waiting += [t.op for t in op.inputs] + list(op.control_inputs)
    scopes = {op.name.split("/")[0].upper() for op in seen}
    return tuple(f for f in PIECES if f in scopes)


def disagreement(outcome, reference):
    """The largest relative difference between two Outcomes: of a loss of either step, and of the gradient."""
    loss = max(abs(a[name] - b[name]) / abs(b[name]) for a, b in zip(outcome.losses, reference.losses) for name in b)
    gradient = np.linalg.norm(outcome.gradient - reference.gradient) / np.linalg.norm(reference.gradient)
    return float(loss), float(gradient)
