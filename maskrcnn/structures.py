"""The canonical tensors: the only interface between the stages of the model.

Letters used in every shape of this package:
  B images in a batch        H, W  size of the padded batch        G  most objects in an image of the batch
  L FPN levels               h, w  size of a level                 A  anchors a location
  R RoIs of all images       C     channels                        K  classes, without background

Boxes are xyxy in continuous image coordinates: a pixel (i, j) covers [j, j+1] x [i, i+1], so that a box of the
whole image is (0, 0, W, H) and x2 - x1 is a width in pixels. Labels run from 1 to K; 0 is background, -1 padding.

The padding contract: images are padded at the bottom and the right; features outside an image's true extent
are zero wherever a later convolution or crop sees them. The true extent at stride s is ceil(size / s). So
padding never changes a result.
"""

from typing import NamedTuple


class Images(NamedTuple):
    """pixels [B,H,W,3] float32, zero-padded; hw [B,2] int32, the true sizes. H and W are multiples of the
    stride of the backbone's last stage, 32."""

    pixels: object
    hw: object


class GroundTruth(NamedTuple):
    """boxes [B,G,4] float32; labels [B,G] int32, -1 where padded; masks [B,G,H,W] uint8; counts [B] int32."""

    boxes: object
    labels: object
    masks: object
    counts: object


class RpnTargets(NamedTuple):
    """What the RPN should say at one level: labels [B,h,w,A] int32 (1 object, 0 background, -1 not sampled),
    deltas [B,h,w,A,4] float32 (valid where the label is 1)."""

    labels: object
    deltas: object


class RpnOut(NamedTuple):
    """What the RPN says at one level: scores [B,h,w,A] (logits), deltas [B,h,w,A,4], float32."""

    scores: object
    deltas: object


class Rois(NamedTuple):
    """Regions of all images, sorted by image: boxes [R,5] (image index, xyxy), counts [B] int32,
    labels [R] int32 (0 background) and gt_index [R] int32 (-1 background); the last two are None
    for proposals that have not been sampled."""

    boxes: object
    counts: object
    labels: object = None
    gt_index: object = None


class BoxOutputs(NamedTuple):
    """Box head: logits [R,K+1] (background first), deltas [R,K,4] (a box for every class)."""

    logits: object
    deltas: object


class Detections(NamedTuple):
    """Final boxes: rois (labels 1..K set), scores [R] in 0..1, masks [R,m,m] in 0..1 over each box."""

    rois: object
    scores: object
    masks: object
