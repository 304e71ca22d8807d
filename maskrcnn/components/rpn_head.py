"""RPN_HEAD: what the region proposal network says about every anchor (Ren et al. 2015).

hw [B,2], features ([B,h,w,C] a level) -> a tuple of RpnOut, one a level: scores [B,h,w,A], deltas [B,h,w,A,4].
A 3x3 convolution shared by all levels, then 1x1 convolutions for scores and deltas. This is the only place where
channels become anchors: deltas leave it as [..., A, 4]. Cells outside an image's true extent are zero.
"""

import tensorflow as tf

from maskrcnn.backbone import valid_cells
from maskrcnn.components.per_image import per_image
from maskrcnn.layers import conv
from maskrcnn.structures import RpnOut

tfv1 = tf.compat.v1


def _head(feature, config):
    anchors = len(config.anchor_ratios)
    with tfv1.variable_scope("rpn", reuse=tfv1.AUTO_REUSE):
        hidden = tf.nn.relu(conv("conv0", feature, config.fpn_channels, 3, std=0.01))
        scores = conv("class", hidden, anchors, 1, std=0.01)
        deltas = conv("box", hidden, 4 * anchors, 1, std=0.01)
    return RpnOut(scores, tf.reshape(deltas, tf.concat([tf.shape(scores), [4]], axis=0)))


@per_image
def nobatch(hw, features, *, config):
    """One image: features [h,w,C] a level -> RpnOut of [h,w,A] and [h,w,A,4] a level."""
    outputs = [_head(feature[None], config) for feature in features]
    return tuple(RpnOut(out.scores[0], out.deltas[0]) for out in outputs)


def batched(hw, features, *, config):
    """All images at once: features [B,h,w,C] a level, zero outside the true extents, and so is the result."""
    padded = tf.shape(features[0])[1:3] * config.strides[0]
    outputs = []
    for feature, stride in zip(features, config.strides):
        scores, deltas = _head(feature, config)
        valid = valid_cells(hw, padded, stride)
        outputs.append(RpnOut(scores * valid, deltas * valid[..., None]))
    return tuple(outputs)
