"""RoIAlign over the levels of a feature pyramid (He et al. 2017): the arithmetic that both RoIAlign pieces use.

A box of size sqrt(area) reads the level of stride 16 x 2^floor(log2(size / config.canonical_size)), or the nearest
there is (Lin et al. 2017, equation 1). Each of the size x size cells of the crop is the mean of 2x2 bilinear samples.
A feature cell's value stands at its centre, half a cell in from its edge; outside the true extent features are zero.
"""

import math

import tensorflow as tf

from maskrcnn.boxes import area

CENTRE = 0.5  # where in its cell a feature's value stands


def roi_align(features, boxes, config, size, centre=CENTRE):
    """features ([B,h,w,C] a level), boxes [R,5] (image index, xyxy) -> crops [R,size,size,C]."""
    features, strides = features[:4], config.strides[:4]
    level = _level(boxes[:, 1:], config)
    crops, order = [], []
    for i, (feature, stride) in enumerate(zip(features, strides)):
        index = tf.where(tf.equal(level, i))[:, 0]
        crops.append(_crop(feature, tf.gather(boxes, index), stride, size, centre))
        order.append(index)
    back = tf.math.invert_permutation(tf.cast(tf.concat(order, axis=0), tf.int32))
    return tf.gather(tf.concat(crops, axis=0), back)


def _level(boxes, config):
    """The index of the level that each box [R,4] reads: [R] int32."""
    size = tf.sqrt(tf.maximum(area(boxes), 1e-6))
    octave = tf.floor(tf.math.log(size / config.canonical_size) / math.log(2) + 1e-6)
    at_canonical = config.strides.index(16)
    return tf.clip_by_value(tf.cast(octave, tf.int32) + at_canonical, 0, 3)


def _crop(feature, boxes, stride, size, centre):
    fine = sample(feature, boxes[:, 1:] / stride - centre, tf.cast(boxes[:, 0], tf.int32), 2 * size)
    return tf.nn.avg_pool2d(fine, 2, 2, "SAME")


def sample(maps, boxes, index, n):
    """Bilinear samples in the middle of the n x n cells of each box: [R,n,n,C].

    maps [N,h,w,C]; index [R] says which map a box reads; boxes [R,4] xyxy in units of cells such that a cell's value
    stands at its integer index. Outside the map is zero.
    """
    # crop_and_resize drops every sample beyond the last cell's value; a ring of zeros lets them fade out instead.
    maps = tf.pad(maps, [[0, 0], [1, 1], [1, 1], [0, 0]])
    limit = tf.cast(tf.shape(maps)[1:3] - 1, tf.float32)
    x1, y1, x2, y2 = tf.unstack(boxes + 1, axis=1)
    half_x, half_y = (x2 - x1) / (2 * n), (y2 - y1) / (2 * n)
    # Its first and last sample stand on the edges of the box it is given.
    edges = tf.stack([y1 + half_y, x1 + half_x, y2 - half_y, x2 - half_x], axis=1)
    edges = edges / tf.stack([limit[0], limit[1], limit[0], limit[1]])
    return tf.image.crop_and_resize(maps, edges, index, [n, n])
