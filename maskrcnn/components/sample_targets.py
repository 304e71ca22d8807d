"""SAMPLE_TARGETS: the RoIs that the heads are trained on.

hw [B,2], Rois (proposals), GroundTruth, seed [2] -> Rois with labels and gt_index. For each image, its objects' own
boxes join the proposals. A box whose best IoU with an object is at least config.roi_fg_iou is foreground, of that
object's class; every other is background. Drawn at random without replacement: config.roi_samples x roi_fg_fraction
foreground boxes at most, then background up to config.roi_samples (Girshick 2015). Within an image foreground comes
first.
"""

import tensorflow as tf

from maskrcnn.boxes import iou
from maskrcnn.components.per_image import per_image
from maskrcnn.rois import from_padded, pad_by_image, valid_rows
from maskrcnn.structures import Rois


def _most_foreground(config):
    return int(config.roi_samples * config.roi_fg_fraction)


@per_image
def nobatch(hw, proposals, ground_truth, *, config, seed):
    """One image: boxes [p,4] and objects [g,4] -> at most config.roi_samples RoIs."""
    boxes = tf.concat([proposals.boxes, ground_truth.boxes], axis=0)
    # A column of zeros keeps the maximum defined where the image has no object.
    overlaps = tf.pad(iou(boxes, ground_truth.boxes), [[0, 0], [0, 1]])
    best = tf.reduce_max(overlaps, axis=1)
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(best), seed))
    is_fg = tf.gather(best, order) >= config.roi_fg_iou
    fg = tf.boolean_mask(order, is_fg)[: _most_foreground(config)]
    bg = tf.boolean_mask(order, ~is_fg)[: config.roi_samples - tf.size(fg)]
    chosen = tf.concat([fg, bg], axis=0)
    matched = tf.gather(tf.argmax(overlaps, axis=1, output_type=tf.int32), fg)
    labels = tf.concat([tf.gather(ground_truth.labels, matched), tf.zeros_like(bg)], axis=0)
    gt_index = tf.concat([matched, -tf.ones_like(bg)], axis=0)
    return Rois(tf.stop_gradient(tf.gather(boxes, chosen)), tf.size(chosen), labels, gt_index)


def batched(hw, proposals, ground_truth, *, config, seed):
    """All images at once: a random key for every box, and the boxes of least key in each of the two groups."""
    boxes, valid = _candidates(proposals, ground_truth)
    return _sample(boxes, valid, tf.random.stateless_uniform(tf.shape(valid), seed), ground_truth, config)


def no_shuffle(hw, proposals, ground_truth, *, config, seed):
    """Fault: the first foreground and background boxes instead of random ones."""
    boxes, valid = _candidates(proposals, ground_truth)
    position = tf.range(tf.shape(valid)[1]) / tf.shape(valid)[1]
    return _sample(boxes, valid, tf.zeros_like(boxes[..., 0]) + tf.cast(position, tf.float32), ground_truth, config)


def _candidates(proposals, ground_truth):
    """Proposals and objects of every image: boxes [B,M,4], and which of them are real [B,M]."""
    padded = pad_by_image(proposals.boxes[:, 1:], proposals.counts)
    valid = [valid_rows(proposals.counts, tf.shape(padded)[1])]
    valid.append(valid_rows(ground_truth.counts, tf.shape(ground_truth.boxes)[1]))
    return tf.concat([padded, ground_truth.boxes], axis=1), tf.concat(valid, axis=1)


def _sample(boxes, valid, key, ground_truth, config):
    """Chooses by least `key` [B,M] in 0..1 within foreground and within background."""
    is_object = valid_rows(ground_truth.counts, tf.shape(ground_truth.boxes)[1])
    overlaps = tf.where(is_object[:, None], iou(boxes, ground_truth.boxes), 0.0)
    overlaps = tf.pad(overlaps, [[0, 0], [0, 0], [0, 1]])
    is_fg = tf.reduce_max(overlaps, axis=2) >= config.roi_fg_iou
    fg, fg_taken = _least(key, valid & is_fg, _most_foreground(config))
    n_fg = tf.reduce_sum(tf.cast(fg_taken, tf.int32), axis=1, keepdims=True)
    bg, bg_taken = _least(key, valid & ~is_fg, config.roi_samples - n_fg)
    chosen = tf.concat([fg, bg], axis=1)
    matched = tf.gather(tf.argmax(overlaps, axis=2, output_type=tf.int32), fg, batch_dims=1)
    labels = tf.gather(ground_truth.labels, matched * tf.cast(fg_taken, tf.int32), batch_dims=1)
    rois = from_padded(
        tf.gather(boxes, chosen, batch_dims=1),
        tf.concat([fg_taken, bg_taken], axis=1),
        tf.concat([labels, tf.zeros_like(bg)], axis=1),
        tf.concat([matched, -tf.ones_like(bg)], axis=1),
    )
    counts = tf.ensure_shape(rois.counts, ground_truth.counts.shape)
    return rois._replace(boxes=tf.stop_gradient(rois.boxes), counts=counts)


def _least(key, among, n):
    """The places of the `n` (a number, or [B,1]) least keys `among` [B,M]: places [B,m], and which are taken [B,m]."""
    width = tf.minimum(tf.reduce_max(n), tf.shape(key)[1])
    order = tf.argsort(tf.where(among, key, 2.0 * tf.ones_like(key)), stable=True)[:, :width]
    return order, tf.gather(among, order, batch_dims=1) & (tf.range(width)[None] < n)
