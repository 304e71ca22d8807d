"""MASK_LOSS: how far the predicted masks are from their targets (He et al. 2017).

hw [B,2], logits [F,m,m,K], targets [F,m,m], Rois (foreground) -> a scalar. For one image: the binary cross-entropy of
the mask of each RoI's own class, averaged over cells and RoIs; 0 without RoIs. Over a batch: the mean over images.
"""

import tensorflow as tf

from maskrcnn.components.per_image import per_image
from maskrcnn.rois import mean_over_images, own_class


def _roi_losses(logits, targets, labels):
    """The mean cross-entropy over the cells of each RoI: [F]."""
    own = own_class(tf.transpose(logits, [0, 3, 1, 2]), labels)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=own), axis=[1, 2])


@per_image
def nobatch(hw, logits, targets, rois, *, config):
    """One image: logits [f,m,m,K], targets [f,m,m]."""
    losses = _roi_losses(logits, targets, rois.labels)
    return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), tf.float32))


def batched(hw, logits, targets, rois, *, config):
    """All images at once: every RoI weighs one over the number of RoIs of its image."""
    return mean_over_images(_roi_losses(logits, targets, rois.labels), rois)
