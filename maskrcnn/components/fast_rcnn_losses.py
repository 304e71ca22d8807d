"""FAST_RCNN_LOSSES: how far the box head is from its targets (Girshick 2015).

hw [B,2], BoxOutputs, Rois, GroundTruth -> (classification loss, box loss), scalars. For one image: the mean
cross-entropy of its RoIs; the absolute error of the foreground RoIs' deltas (those of their own class, in units of
config.box_delta_std), summed, over the number of all its RoIs. Over a batch: the mean of the images' losses.
"""

import tensorflow as tf

from maskrcnn.boxes import encode
from maskrcnn.components.per_image import per_image
from maskrcnn.components.rpn_loss import huber
from maskrcnn.rois import foreground, gather_ground_truth, mean_over_images, own_class

HUBER_DELTA = 1.0


def _box_errors(deltas, boxes, objects, labels, config):
    """Error [F] of class-specific deltas [F,K,4] for boxes [F,4] that should become objects [F,4] of labels [F]."""
    own = own_class(deltas, labels)
    target = encode(objects, boxes) / tf.constant(config.box_delta_std)
    return tf.reduce_sum(huber(own - target, HUBER_DELTA), axis=-1)


@per_image
def nobatch(hw, outputs, rois, ground_truth, *, config):
    """One image: logits [r,K+1], deltas [r,K,4]; its RoIs [r,4] and objects [g,4]."""
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=rois.labels, logits=outputs.logits)
    fg = tf.where(rois.labels > 0)[:, 0]
    boxes, labels, deltas = (tf.gather(t, fg) for t in (rois.boxes, rois.labels, outputs.deltas))
    objects = tf.gather(ground_truth.boxes, tf.gather(rois.gt_index, fg))
    errors = _box_errors(deltas, boxes, objects, labels, config)
    number = tf.cast(tf.maximum(tf.size(entropy), 1), tf.float32)
    return tf.reduce_sum(entropy) / number, tf.reduce_sum(errors) / number


def batched(hw, outputs, rois, ground_truth, *, config):
    """All images at once: every RoI weighs one over the number of RoIs of its image."""
    fg, where = foreground(rois)
    objects = gather_ground_truth(ground_truth.boxes, fg)
    errors = _box_errors(tf.gather(outputs.deltas, where), fg.boxes[:, 1:], objects, fg.labels, config)
    return _classification(outputs, rois), _box(errors, where, rois)


def fg_index_mixup(hw, outputs, rois, ground_truth, *, config):
    """Fault: the rows of one image are looked up with foreground places counted over the whole batch. The first
    image's are right; every later image's foreground meets the predictions of other rows."""
    fg, where = foreground(rois)
    objects = gather_ground_truth(ground_truth.boxes, fg)
    start = tf.cast(tf.cumsum(rois.counts, exclusive=True), tf.int64)
    start = tf.gather(start, tf.cast(fg.boxes[:, 0], tf.int32))
    row = tf.minimum(where + start, tf.shape(outputs.deltas, tf.int64)[0] - 1)
    errors = _box_errors(tf.gather(outputs.deltas, row), fg.boxes[:, 1:], objects, fg.labels, config)
    return _classification(outputs, rois), _box(errors, where, rois)


def _classification(outputs, rois):
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=rois.labels, logits=outputs.logits)
    return mean_over_images(entropy, rois)


def _box(errors, where, rois):
    rows = tf.scatter_nd(where[:, None], errors, tf.shape(rois.labels, tf.int64))
    return mean_over_images(rows, rois)
