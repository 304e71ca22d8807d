"""Two pieces of one's own that are sound each with the standard other one, and break masks together.

    maskrcnn-bisect start --flags ROI_ALIGN_MASK,CROP_AND_RESIZE_MASK,MASK_LOSS \\
        --plant CROP_AND_RESIZE_MASK=maskrcnn.examples.truncated_masks:soft_targets \\
        --plant MASK_LOSS=maskrcnn.examples.truncated_masks:integer_targets

`soft_targets` hands on the coverage of each cell, 0 to 1, where the standard piece rounds it to 0 or 1;
cross-entropy takes either. `integer_targets` casts its targets to integers, as many a mask loss does, which is exact
for 0 and 1. Only with both on does the cast cut every partly covered cell down to 0, and the model learns masks that
are too small.

A function of one's own has the signature of the batched implementation it stands in for, and takes all images at once:
see the docstring of that piece in maskrcnn/components for the shapes.
"""

import tensorflow as tf

from maskrcnn.components.crop_and_resize_mask import crop_masks
from maskrcnn.components.mask_loss import batched as mask_loss
from maskrcnn.rois import image_index


def soft_targets(hw, ground_truth, rois, *, config):
    """CROP_AND_RESIZE_MASK: [F,m,m] in 0..1, blurred over the neighbouring cells as an averaging resize does."""
    index = tf.stack([image_index(rois), rois.gt_index], axis=1)
    size = 2 * config.mask_crop
    masks = crop_masks(tf.gather_nd(ground_truth.masks, index), rois.boxes[:, 1:], 2 * size)
    return tf.nn.avg_pool2d(masks[..., None], 6, 2, "SAME")[..., 0]


def integer_targets(hw, logits, targets, rois, *, config):
    """MASK_LOSS: the standard loss, against targets as the integers they were always meant to be."""
    return mask_loss(hw, logits, tf.cast(tf.cast(targets, tf.int32), tf.float32), rois, config=config)
