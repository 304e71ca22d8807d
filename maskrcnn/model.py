"""Mask R-CNN (He et al. 2017), wired from a table of pieces."""

import tensorflow as tf

from maskrcnn.backbone import pyramid
from maskrcnn.boxes import clip, decode
from maskrcnn.layers import conv, deconv, dense
from maskrcnn.rois import foreground, from_padded, own_class, pad_by_image, valid_rows
from maskrcnn.structures import Detections

tfv1 = tf.compat.v1


class MaskRCNN:
    """`pieces` {flag: function} serves training and evaluation alike. Variables are shared by all uses of a graph."""

    def __init__(self, config, pieces):
        self._config = config
        self._pieces = pieces

    def _run(self, flag, hw, *args, **keywords):
        with tf.name_scope(flag.lower()):
            return self._pieces[flag](hw, *args, config=self._config, **keywords)

    def losses(self, batch, step):
        """A Batch of tensors and the global step (a scalar) -> {name: scalar}, to be summed.

        What is drawn at random depends on the graph's seed and on the step.
        """
        hw, truth = batch.images.hw, batch.ground_truth
        features = pyramid(batch.images, self._config)
        rpn = self._run("RPN_HEAD", hw, features)
        losses = dict(zip(("rpn_class", "rpn_box"), self._run("RPN_LOSS", hw, rpn, batch.rpn_targets)))
        proposals = self._run("GENERATE_PROPOSALS", hw, rpn, training=True)
        seed = tf.stack([tf.cast(tfv1.get_default_graph().seed or 0, tf.int32), tf.cast(step, tf.int32)])
        rois = self._run("SAMPLE_TARGETS", hw, proposals, truth, seed=seed)
        outputs = self._box_head(hw, features, rois, training=True)
        losses.update(zip(("box_class", "box_box"), self._run("FAST_RCNN_LOSSES", hw, outputs, rois, truth)))
        objects, _ = foreground(rois)
        targets = self._run("CROP_AND_RESIZE_MASK", hw, truth, objects)
        logits = self._mask_head(hw, features, objects, training=True)
        losses["mask"] = self._run("MASK_LOSS", hw, logits, targets, objects)
        return losses

    def detect(self, images):
        """Images -> Detections, at most config.detections an image."""
        hw = images.hw
        features = pyramid(images, self._config)
        proposals = self._run("GENERATE_PROPOSALS", hw, self._run("RPN_HEAD", hw, features), training=False)
        outputs = self._box_head(hw, features, proposals, training=False)
        rois, scores = self._final_boxes(hw, outputs, proposals)
        logits = self._mask_head(hw, features, rois, training=False)
        own = own_class(tf.transpose(logits, [0, 3, 1, 2]), rois.labels)
        return Detections(rois, scores, tf.sigmoid(own))

    def _box_head(self, hw, features, rois, training):
        crops = self._run("ROI_ALIGN_BOX", hw, features, rois, training=training)
        with tfv1.variable_scope("box_head", reuse=tfv1.AUTO_REUSE):
            flat = tf.reshape(crops, [-1, self._config.box_crop**2 * self._config.fpn_channels])
            hidden = tf.nn.relu(dense("fc0", flat, self._config.box_fc))
            hidden = tf.nn.relu(dense("fc1", hidden, self._config.box_fc))
        return self._run("FAST_RCNN_OUTPUTS", hw, hidden, rois)

    def _mask_head(self, hw, features, rois, training):
        """Logits [R,m,m,K], m = 2 config.mask_crop."""
        x = self._run("ROI_ALIGN_MASK", hw, features, rois, training=training)
        # oneDNN gives the convolution of an empty batch the wrong number of channels: one more row keeps it from empty.
        x = tf.pad(x, [[0, 1], [0, 0], [0, 0], [0, 0]])
        with tfv1.variable_scope("mask_head", reuse=tfv1.AUTO_REUSE):
            for i in range(self._config.mask_convs):
                x = tf.nn.relu(conv(f"conv{i}", x, self._config.mask_channels, 3))
            x = tf.nn.relu(deconv("deconv", x, self._config.mask_channels))
            x = conv("output", x, self._config.classes, 1, std=0.01)
        # Not x[:-1], whose gradient takes several times as long.
        return tf.slice(x, [0, 0, 0, 0], [tf.shape(x)[0] - 1, *x.shape[1:]])

    def _final_boxes(self, hw, outputs, proposals):
        """Per-class NMS over the boxes that the box head makes of the proposals: (Rois with labels, scores [R])."""
        deltas = outputs.deltas * tf.constant(self._config.box_delta_std)
        boxes = decode(deltas, proposals.boxes[:, None, 1:])
        boxes = clip(pad_by_image(boxes, proposals.counts), hw[:, None, None])
        scores = pad_by_image(tf.nn.softmax(outputs.logits)[:, 1:], proposals.counts)
        kept = tf.image.combined_non_max_suppression(
            boxes,
            scores,
            max_output_size_per_class=self._config.detections,
            max_total_size=self._config.detections,
            iou_threshold=self._config.nms,
            score_threshold=self._config.score_threshold,
            clip_boxes=False,
        )
        valid = valid_rows(kept.valid_detections, self._config.detections)
        labels = tf.cast(kept.nmsed_classes, tf.int32) + 1
        rois = from_padded(kept.nmsed_boxes, valid, labels, -tf.ones_like(labels))
        return rois._replace(counts=kept.valid_detections), tf.boolean_mask(kept.nmsed_scores, valid)
