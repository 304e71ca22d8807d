"""Random canonical tensors for the tests of the pieces, and a way to compare two forms of a piece on them."""

import dataclasses

import numpy as np
import tensorflow as tf

from maskrcnn.backbone import valid_cells
from maskrcnn.config import preset
from maskrcnn.structures import GroundTruth, Rois, RpnOut, RpnTargets
from maskrcnn.tf1 import tfv1

SIZES = np.array([[64, 90], [96, 64], [50, 96]], np.int32)  # unequal, and not all multiples of the strides
PADDED = (96, 96)
OBJECTS = np.array([3, 0, 2], np.int32)  # one image without any


class Inputs:
    """Random inputs of a batch of b images: everything that lies outside true extents is padding as promised."""

    def __init__(self, seed, b=3, extra=0, **config):
        self.rng = np.random.default_rng(seed)
        self.config = dataclasses.replace(preset("tiny"), batch=b, **config)
        self.hw = SIZES[:b]
        self.padded = PADDED
        self.extra = extra  # more padding at the bottom and the right, which must change nothing
        self.b = b

    def map(self, stride, *channels):
        """[B,h,w,*channels], zero outside the true extents."""
        full = np.zeros((self.b, *((n + self.extra) // stride for n in self.padded), *channels), np.float32)
        for image, (h, w) in zip(full, -(-self.hw // stride)):
            image[:h, :w] = self.rng.normal(size=(h, w, *channels))
        return full

    def features(self):
        return tuple(self.map(s, self.config.fpn_channels) for s in self.config.strides)

    def rpn(self):
        a = len(self.config.anchor_ratios)
        return tuple(RpnOut(self.map(s, a), self.map(s, a, 4) * 0.3) for s in self.config.strides)

    def rpn_targets(self):
        found = []
        for stride in self.config.strides:
            a = len(self.config.anchor_ratios)
            labels = np.digitize(self.map(stride, a), [-0.5, 0.5]).astype(np.int32) - 1
            outside = np.ones_like(labels, bool)
            for image, (h, w) in zip(outside, -(-self.hw // stride)):
                image[:h, :w] = False
            labels[outside] = -1
            found.append(RpnTargets(labels, self.map(stride, a, 4)))
        return tuple(found)

    def without_padding(self, arg):
        """A pyramid of tensors with its padding cut off from the gradient; anything else as it is."""
        if not isinstance(arg, tuple) or hasattr(arg, "_fields"):
            return arg
        padded = [n + self.extra for n in self.padded]

        def cut(t, stride):
            if t.dtype != tf.float32:
                return t
            valid = valid_cells(tf.constant(self.hw), padded, stride)
            return t * (valid if t.shape.rank == 4 else valid[..., None])

        levels = zip(arg, self.config.strides)
        return tuple(tf.nest.map_structure(lambda t, s=s: cut(t, s), level) for level, s in levels)

    def boxes(self, i, n):
        """n boxes of image i: tiny and large ones, some up to its border."""
        h, w = self.hw[i]
        centre = self.rng.uniform(0, 1, (n, 2)) * [w, h]
        half = np.exp(self.rng.uniform(np.log(2), np.log(60), (n, 2))) / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        return np.clip(boxes, 0, [w, h, w, h]).astype(np.float32)

    def ground_truth(self):
        counts = OBJECTS[: self.b]
        g = counts.max() + (1 if self.extra else 0)
        boxes = np.zeros((self.b, g, 4), np.float32)
        labels = np.full((self.b, g), -1, np.int32)
        masks = np.zeros((self.b, g, *(n + self.extra for n in self.padded)), np.uint8)
        for i, n in enumerate(counts):
            boxes[i, :n] = self.boxes(i, n)
            labels[i, :n] = self.rng.integers(1, self.config.classes + 1, n)
            for k in range(n):
                x1, y1, x2, y2 = boxes[i, k].round().astype(int)
                masks[i, k, y1:y2, x1:x2] = self.rng.random((y2 - y1, x2 - x1)) < 0.7
        return GroundTruth(boxes, labels, masks, counts)

    def rois(self, truth=None, foreground=False, most=12):
        """Rois of 0 to `most` an image; with `truth`, labelled and matched to its objects."""
        rows, labels, index, counts = [], [], [], []
        for i in range(self.b):
            n = int(self.rng.integers(most // 2, most + 1))
            objects = 0 if truth is None else int(truth.counts[i])
            if foreground and not objects:
                n = 0
            own = self.boxes(i, n)
            matched = self.rng.integers(0 if foreground else -1, max(objects, 1), n)
            matched = matched if objects else np.full(n, -1)
            rows.append(np.concatenate([np.full((n, 1), i), own], axis=1))
            index.append(matched)
            labels.append(np.where(matched >= 0, truth.labels[i, matched] if objects else 0, 0))
            counts.append(n)
        boxes = np.concatenate(rows).astype(np.float32)
        counts = np.array(counts, np.int32)
        if truth is None:
            return Rois(boxes, counts)
        return Rois(boxes, counts, np.concatenate(labels).astype(np.int32), np.concatenate(index).astype(np.int32))

    def rows(self, rois, *channels):
        return self.rng.normal(size=(len(rois.boxes), *channels)).astype(np.float32)


def run(piece, inputs, *args, **keywords):
    """(value, gradients) of a piece, as numpy in the structure it returns; gradients of a fixed random projection of
    its float outputs with respect to every float input, in the order of the flattened arguments."""
    with tf.Graph().as_default():
        tfv1.set_random_seed(0)
        tensors = tf.nest.map_structure(lambda x: None if x is None else tf.constant(x), args)
        inside = [inputs.without_padding(t) for t in tensors]
        value = piece(tf.constant(inputs.hw), *inside, config=inputs.config, **keywords)
        floats = [t for t in tf.nest.flatten(value) if t is not None and t.dtype == tf.float32]
        total = tf.add_n([tf.reduce_sum(t * tf.cos(_places(t))) for t in floats])
        sources = [t for t in tf.nest.flatten(tensors) if t is not None and t.dtype == tf.float32]
        sources += tfv1.trainable_variables()
        gradients = [
            tf.zeros_like(s) if g is None else tf.convert_to_tensor(g)
            for s, g in zip(sources, tfv1.gradients(total, sources))
        ]
        with tfv1.Session() as session:
            session.run(tfv1.global_variables_initializer())
            fetched = session.run([v for v in tf.nest.flatten(value) if v is not None] + gradients)
    n = len(fetched) - len(gradients)
    return fetched[:n], fetched[n:]


def _places(t):
    """A number for every element of a tensor that depends on its place from the end of each axis' start, not on the
    padded size: so that a projection of padded and of unpadded tensors is the same."""
    place = tf.zeros([], tf.float32)
    for axis in range(t.shape.rank):
        index = tf.cast(tf.range(tf.shape(t)[axis]), tf.float32) * (axis + 0.7)
        place = place + tf.reshape(index, [-1 if k == axis else 1 for k in range(t.shape.rank)])
    return place
