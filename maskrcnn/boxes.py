"""Box arithmetic on tensors; coordinates as structures.py defines them."""

import math

import tensorflow as tf

from maskrcnn.anchors import cell_anchors

MAX_LOG_RATIO = math.log(
    1000.0 / 16
)  # a decoded box is at most this factor larger than its anchor, so exp cannot overflow


def area(boxes):
    """Areas of boxes [...,4] in square pixels."""
    size = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return size[..., 0] * size[..., 1]


def iou(a, b):
    """Intersection over union of a [...,N,4] with b [...,M,4]: [...,N,M]; 0 where both are empty."""
    top_left = tf.maximum(a[..., :, None, :2], b[..., None, :, :2])
    bottom_right = tf.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    size = tf.maximum(bottom_right - top_left, 0)
    inter = size[..., 0] * size[..., 1]
    return tf.math.divide_no_nan(inter, area(a)[..., :, None] + area(b)[..., None, :] - inter)


def encode(boxes, anchors):
    """Deltas [...,4] that take `anchors` to `boxes` (the inverse of `decode`)."""
    size_a = tf.maximum(anchors[..., 2:] - anchors[..., :2], 1e-3)
    size = tf.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    shift = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2 / size_a
    return tf.concat([shift, tf.math.log(size / size_a)], axis=-1)


def decode(deltas, anchors):
    """Boxes [...,4] from deltas: shifts over the anchor's size, then log ratios of sizes."""
    size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * size
    half = size * tf.exp(tf.minimum(deltas[..., 2:], MAX_LOG_RATIO)) / 2
    return tf.concat([centre - half, centre + half], axis=-1)


def clip(boxes, hw):
    """Boxes [...,4] cut off at the image's borders; hw [...,2] broadcasts against their leading axes."""
    limit = tf.cast(tf.reverse(hw, axis=[-1]), boxes.dtype)
    return tf.maximum(tf.minimum(boxes, tf.concat([limit, limit], axis=-1)), 0)


def level_anchors(config, stride, h, w):
    """All anchors of a level of h by w cells (tensors): [h,w,A,4]."""
    x = (tf.range(tf.cast(w, tf.float32)) + 0.5) * stride
    y = (tf.range(tf.cast(h, tf.float32)) + 0.5) * stride
    x, y = tf.meshgrid(x, y)
    return tf.stack([x, y, x, y], axis=-1)[:, :, None] + cell_anchors(config, stride)
