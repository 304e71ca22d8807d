"""GENERATE_PROPOSALS: from what the RPN says to a few boxes an image.

hw [B,2], RpnOut a level -> Rois [R,5] without labels, best first within an image. At each level of an image: the
config.proposals_per_level highest scores, decoded against their anchors, clipped to the image, filtered by NMS
(IoU above config.rpn_nms with a better box). Then, over its levels together, the config.proposals highest scores
(Lin et al. 2017). No gradient flows through proposals.
"""

import tensorflow as tf

from maskrcnn.backbone import valid_cells
from maskrcnn.boxes import clip, decode, level_anchors
from maskrcnn.components.per_image import per_image
from maskrcnn.rois import from_padded, valid_rows
from maskrcnn.structures import Rois, RpnOut

NO_SCORE = -1e9  # below every logit: the score of an anchor that must not be chosen


@per_image
def nobatch(hw, rpn, *, config, training):
    """One image: RpnOut of [h,w,A(,4)] a level -> boxes [r,4]."""
    boxes, scores = [], []
    for out, stride in zip(rpn, config.strides):
        h, w, _ = tf.unstack(tf.shape(out.scores))
        flat = tf.reshape(out.scores, [-1])
        best, index = tf.nn.top_k(flat, tf.minimum(config.proposals_per_level, tf.size(flat)))
        anchors = tf.gather(tf.reshape(level_anchors(config, stride, h, w), [-1, 4]), index)
        level = clip(decode(tf.gather(tf.reshape(out.deltas, [-1, 4]), index), anchors), hw)
        keep = tf.image.non_max_suppression(level, best, config.proposals_per_level, config.rpn_nms)
        boxes.append(tf.gather(level, keep))
        scores.append(tf.gather(best, keep))
    scores = tf.concat(scores, axis=0)
    _, keep = tf.nn.top_k(scores, tf.minimum(config.proposals, tf.size(scores)))
    return Rois(tf.stop_gradient(tf.gather(tf.concat(boxes, axis=0), keep)), tf.size(keep))


def batched(hw, rpn, *, config, training):
    """All images at once: a level is a class of one batched NMS, whose overall limit is the choice across levels."""
    boxes, scores = _candidates(hw, rpn, config)
    boxes, _, counts = _nms(boxes, scores, config, config.proposals)
    return _rois(boxes, counts)


def no_joint_topk(hw, rpn, *, config, training):
    """Fault: what every level keeps is a proposal; the choice across levels is missing."""
    boxes, scores = _candidates(hw, rpn, config)
    boxes, _, counts = _nms(boxes, scores, config, config.proposals_per_level * len(rpn))
    return _rois(boxes, counts)


def topk_over_batch(hw, rpn, *, config, training):
    """Fault: the choice across levels is made over the whole batch, so one image may take the places of another."""
    boxes, scores = _candidates(hw, rpn, config)
    boxes, scores, counts = _nms(boxes, scores, config, config.proposals_per_level * len(rpn))
    valid = valid_rows(counts, tf.shape(scores)[1])
    scores = tf.where(valid, scores, NO_SCORE * tf.ones_like(scores))
    total = tf.minimum(config.proposals * hw.shape[0], tf.size(scores))
    threshold = tf.nn.top_k(tf.reshape(scores, [-1]), total).values[-1]
    chosen = from_padded(boxes, valid & (scores >= threshold))
    return Rois(tf.stop_gradient(chosen.boxes), tf.ensure_shape(chosen.counts, counts.shape))


def wrong_permutation(hw, rpn, *, config, training):
    """Fault: deltas are permuted by [0,3,1,2] (channels before rows) where channels were to stay last."""

    def permuted(out):
        flat = tf.reshape(out.deltas, tf.concat([tf.shape(out.scores)[:3], [-1]], axis=0))
        return RpnOut(out.scores, tf.reshape(tf.transpose(flat, [0, 3, 1, 2]), tf.shape(out.deltas)))

    return batched(hw, tuple(permuted(out) for out in rpn), config=config, training=training)


def _candidates(hw, rpn, config):
    """Boxes [B,N,4] of the best anchors of all levels, and their scores [B,N,L], at the box's own level only."""
    levels = len(rpn)
    padded = tf.shape(rpn[0].scores)[1:3] * config.strides[0]
    boxes, scores = [], []
    for i, (out, stride) in enumerate(zip(rpn, config.strides)):
        b, h, w, _ = tf.unstack(tf.shape(out.scores))
        inside = valid_cells(hw, padded, stride) > 0
        flat = tf.reshape(tf.where(inside, out.scores, NO_SCORE * tf.ones_like(out.scores)), [b, -1])
        best, index = tf.nn.top_k(flat, tf.minimum(config.proposals_per_level, tf.shape(flat)[1]))
        deltas = tf.gather(tf.reshape(out.deltas, [b, -1, 4]), index, batch_dims=1)
        anchors = tf.gather(tf.reshape(level_anchors(config, stride, h, w), [-1, 4]), index)
        boxes.append(clip(decode(deltas, anchors), hw[:, None]))
        scores.append(tf.pad(best[..., None], [[0, 0], [0, 0], [i, levels - 1 - i]], constant_values=NO_SCORE))
    return tf.concat(boxes, axis=1), tf.concat(scores, axis=1)


def _nms(boxes, scores, config, total):
    """NMS within levels, then the best `total` of an image: boxes [B,total,4], scores [B,total], counts [B]."""
    kept = tf.image.combined_non_max_suppression(
        boxes[:, :, None],
        scores,
        max_output_size_per_class=config.proposals_per_level,
        max_total_size=total,
        iou_threshold=config.rpn_nms,
        score_threshold=NO_SCORE / 2,
        clip_boxes=False,
    )
    return kept.nmsed_boxes, kept.nmsed_scores, kept.valid_detections


def _rois(boxes, counts):
    flat = from_padded(boxes, valid_rows(counts, tf.shape(boxes)[1]))
    return Rois(tf.stop_gradient(flat.boxes), counts)
