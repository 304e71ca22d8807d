"""Regrouping of RoIs: between the flat list over all images and one padded row an image."""

import tensorflow as tf

from maskrcnn.structures import Rois


def pad_by_image(values, counts):
    """values [R,...] sorted by image, counts [B] -> [B,max(counts),...], zero where an image has fewer."""
    return tf.RaggedTensor.from_row_lengths(values, counts, validate=False).to_tensor()


def valid_rows(counts, length):
    """[B,length] bool: row b is true in its first counts[b] places."""
    return tf.sequence_mask(counts, length)


def from_padded(boxes, valid, labels=None, gt_index=None):
    """Rois from rows padded to [B,M,...], of which `valid` [B,M] are real."""
    counts = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)
    index = tf.cast(tf.where(valid)[:, :1], boxes.dtype)
    flat = [None if v is None else tf.boolean_mask(v, valid) for v in (labels, gt_index)]
    return Rois(tf.concat([index, tf.boolean_mask(boxes, valid)], axis=1), counts, *flat)


def image_index(rois):
    """The image of every RoI: [R] int32."""
    return tf.cast(rois.boxes[:, 0], tf.int32)


def foreground(rois):
    """The RoIs with an object in them (label above 0), and where they stand in the list: (Rois, [F] int64)."""
    where = tf.where(rois.labels > 0)[:, 0]
    boxes = tf.gather(rois.boxes, where)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(where, tf.int32), tf.cast(boxes[:, 0], tf.int32), size(rois))
    counts = tf.ensure_shape(counts, rois.counts.shape)
    return Rois(boxes, counts, tf.gather(rois.labels, where), tf.gather(rois.gt_index, where)), where


def size(rois):
    """B, the number of images the RoIs belong to."""
    return rois.counts.shape[0] or tf.shape(rois.counts)[0]


def gather_ground_truth(values, rois):
    """The row of values [B,G,...] that every RoI is matched to: [R,...]; row 0 of its image for background."""
    index = tf.stack([image_index(rois), tf.maximum(rois.gt_index, 0)], axis=1)
    return tf.gather_nd(values, index)


def own_class(values, labels):
    """What values [R,K,...] hold for the class of each RoI, labels [R] in 1..K: [R,...]."""
    # Not tf.gather with batch_dims: its gradient fails where there is no RoI at all.
    return tf.gather_nd(values, tf.stack([tf.range(tf.size(labels)), labels - 1], axis=1))


def mean_over_images(values, rois):
    """The mean over images of the per-image mean of values [R]; an image without RoIs counts as 0."""
    weights = 1.0 / tf.cast(tf.maximum(rois.counts, 1), values.dtype)
    return tf.reduce_sum(values * tf.gather(weights, image_index(rois))) / tf.cast(size(rois), values.dtype)
