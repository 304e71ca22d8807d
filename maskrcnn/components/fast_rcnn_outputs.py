"""FAST_RCNN_OUTPUTS: what the box head says about every RoI (Girshick 2015).

hw [B,2], hidden [R,D], Rois -> BoxOutputs: logits [R,K+1], deltas [R,K,4]. Two fully connected layers.
"""

import tensorflow as tf

from maskrcnn.components.per_image import per_image
from maskrcnn.layers import dense
from maskrcnn.structures import BoxOutputs

tfv1 = tf.compat.v1


def _outputs(hidden, config):
    with tfv1.variable_scope("fastrcnn", reuse=tfv1.AUTO_REUSE):
        logits = dense("class", hidden, config.classes + 1, std=0.01)
        deltas = dense("box", hidden, 4 * config.classes, std=0.001)
    return BoxOutputs(logits, tf.reshape(deltas, [-1, config.classes, 4]))


@per_image
def nobatch(hw, hidden, rois, *, config):
    """One image: hidden [r,D] -> its RoIs' logits and deltas."""
    return _outputs(hidden, config)


def batched(hw, hidden, rois, *, config):
    """All images at once: the layers treat rows alone, so the rows of all images go through together."""
    return _outputs(hidden, config)
