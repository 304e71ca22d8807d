"""CROP_AND_RESIZE_MASK: what the mask head should say about every foreground RoI.

hw [B,2], GroundTruth, Rois (foreground) -> [F,m,m] of 0 and 1, m = 2 config.mask_crop: the mask of the object that
the RoI is matched to, sampled bilinearly in the middle of m x m cells over the box; 1 where at least half covered.
"""

import tensorflow as tf

from maskrcnn.components.per_image import per_image
from maskrcnn.components.roi_align import CENTRE, sample
from maskrcnn.rois import image_index


def crop_masks(masks, boxes, size, index=None):
    """masks [N,H,W], boxes [F,4] in pixels and which mask each reads, `index` [F] (by default its own) -> samples
    [F,size,size] in 0..1. Masks are read where they lie: a copy for every RoI would be gigabytes at the size of COCO.
    """
    masks = tf.cast(masks, tf.float32)[..., None]
    index = tf.range(tf.shape(masks)[0]) if index is None else index
    return sample(masks, boxes - CENTRE, index, size)[..., 0]


def binary(samples):
    """1 where a sample is at least one half, else 0."""
    return tf.cast(samples >= 0.5, tf.float32)


@per_image
def nobatch(hw, ground_truth, rois, *, config):
    """One image: masks [g,h,w] and RoIs [f,4] -> [f,m,m]."""
    return binary(crop_masks(ground_truth.masks, rois.boxes, 2 * config.mask_crop, rois.gt_index))


def batched(hw, ground_truth, rois, *, config):
    """All images at once: the objects of all images in one list, without padding, and each RoI's place in it."""
    real = tf.sequence_mask(ground_truth.counts, tf.shape(ground_truth.masks)[1])
    return _crop_from_list(tf.boolean_mask(ground_truth.masks, real), ground_truth, rois, config)


def keep_padding(hw, ground_truth, rois, *, config):
    """Fault: the list still holds the padding of every image, so that all places after the first padding are off."""
    masks = tf.reshape(ground_truth.masks, tf.concat([[-1], tf.shape(ground_truth.masks)[2:]], axis=0))
    return _crop_from_list(masks, ground_truth, rois, config)


def _crop_from_list(masks, ground_truth, rois, config):
    """masks [sum of counts,H,W]; an image's objects start where those of the images before it end."""
    start = tf.cumsum(ground_truth.counts, exclusive=True)
    place = tf.gather(start, image_index(rois)) + rois.gt_index
    return binary(crop_masks(masks, rois.boxes[:, 1:], 2 * config.mask_crop, place))
