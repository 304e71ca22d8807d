"""RPN_LOSS: how far the RPN is from its targets.

hw [B,2], RpnOut a level, RpnTargets a level -> (objectness loss, box loss), scalars. For one image: cross-entropy
summed over the sampled anchors (label 0 or 1), Huber loss of the deltas (delta 1/9) summed over the object anchors
(label 1), both divided by config.rpn_samples. Over a batch: the mean of the images' losses.
"""

import tensorflow as tf

from maskrcnn.components.per_image import per_image
from maskrcnn.structures import RpnOut

HUBER_DELTA = 1.0 / 9  # where squared error turns into absolute error (Ren et al. 2015, as released)


def huber(error, delta):
    """Huber loss over delta: absolute error for large ones, squared for small ones; elementwise."""
    magnitude = tf.abs(error)
    return tf.where(magnitude < delta, 0.5 * error * error / delta, magnitude - 0.5 * delta)


def _losses(rpn, targets, config):
    """Sums over all the anchors of all levels given, over rpn_samples."""
    scores, labels = _all([out.scores for out in rpn], [-1]), _all([target.labels for target in targets], [-1])
    deltas, wanted = (_all([level.deltas for level in levels], [-1, 4]) for levels in (rpn, targets))
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(labels, tf.float32), logits=scores)
    error = tf.reduce_sum(huber(deltas - wanted, HUBER_DELTA), axis=1)
    objectness = tf.reduce_sum(tf.where(labels >= 0, entropy, tf.zeros_like(entropy)))
    box = tf.reduce_sum(tf.where(tf.equal(labels, 1), error, tf.zeros_like(error)))
    return objectness / config.rpn_samples, box / config.rpn_samples


def _all(levels, shape):
    return tf.concat([tf.reshape(level, shape) for level in levels], axis=0)


@per_image
def nobatch(hw, rpn, targets, *, config):
    """One image: RpnOut and RpnTargets of [h,w,A(,4)] a level, of its true extent."""
    return _losses(rpn, targets, config)


def batched(hw, rpn, targets, *, config):
    """All images at once: anchors outside an image's extent are labelled -1 and so do not count."""
    objectness, box = sum_over_batch(hw, rpn, targets, config=config)
    return objectness / hw.shape[0], box / hw.shape[0]


def sum_over_batch(hw, rpn, targets, *, config):
    """Fault: the sum over images where the mean is meant."""
    return _losses(rpn, targets, config)


def reshape_for_transpose(hw, rpn, targets, *, config):
    """Fault: deltas [B,h,w,A,4] are brought to channel-first by a reshape, which scrambles them, where a transpose
    is meant; and the targets, correctly transposed, are compared with that."""

    def scrambled(out):
        b, h, w, a, _ = tf.unstack(tf.shape(out.deltas))
        channel_first = tf.reshape(out.deltas, [b, a * 4, h, w])
        return RpnOut(out.scores, tf.reshape(tf.transpose(channel_first, [0, 2, 3, 1]), [b, h, w, a, 4]))

    return batched(hw, tuple(scrambled(out) for out in rpn), targets, config=config)
