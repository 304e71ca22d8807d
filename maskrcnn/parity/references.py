"""What each piece should compute, for one image, in plain numpy and float64. Free of TensorFlow.

Written from the docstrings of maskrcnn/components and sharing no code with them, so that a mistake that both
implementations of a piece have in common is seen. Every function takes one image's inputs, without padding, and returns
one image's outputs. NaN in a result means that it hangs on a rounding error: either value is right.
"""

import numpy as np

from maskrcnn.parity.cases import ramp
from maskrcnn.structures import BoxOutputs, Rois, RpnOut

MOST_ENLARGED = 1000.0 / 16  # how many times as large as its anchor a decoded box may be


def rpn_head(hw, features, *, config, weights):
    """[h,w,C] a level -> RpnOut a level: a 3x3 convolution with ReLU, then one matrix for scores, one for deltas."""
    w = {name: np.asarray(value, float) for name, value in weights.items()}
    anchors = len(config.anchor_ratios)
    found = []
    for feature in features:
        height, width, _ = feature.shape
        ring = np.pad(np.asarray(feature, float), [(1, 1), (1, 1), (0, 0)])
        kernel = w["rpn/conv0/W"]
        hidden = sum(ring[i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))
        hidden = np.maximum(hidden + w["rpn/conv0/b"], 0)
        scores = hidden @ w["rpn/class/W"][0, 0] + w["rpn/class/b"]
        deltas = hidden @ w["rpn/box/W"][0, 0] + w["rpn/box/b"]
        found.append(RpnOut(scores, deltas.reshape(height, width, anchors, 4)))
    return tuple(found)


def _huber(error, delta):
    a = np.abs(error)
    return np.where(a < delta, a**2 / (2 * delta), a - delta / 2)


def rpn_loss(hw, rpn, targets, *, config):
    objectness = box = 0.0
    for out, target in zip(rpn, targets):
        sampled, is_object = target.labels >= 0, target.labels == 1
        logit, label = np.asarray(out.scores, float)[sampled], target.labels[sampled]
        objectness += (np.logaddexp(0, logit) - label * logit).sum()
        box += _huber(np.asarray(out.deltas, float)[is_object] - target.deltas[is_object], 1 / 9).sum()
    return objectness / config.rpn_samples, box / config.rpn_samples


def _decoded(hw, out, stride, config):
    """The boxes [h,w,A,4] that a level's deltas make of its anchors, cut off at the image's border."""
    height, width, _ = out.scores.shape
    side = config.anchor_scale * stride
    ratio = np.array(config.anchor_ratios)
    w, h = side / np.sqrt(ratio), side * np.sqrt(ratio)
    x = (np.arange(width)[None, :, None] + 0.5) * stride
    y = (np.arange(height)[:, None, None] + 0.5) * stride
    dx, dy, dw, dh = np.moveaxis(np.asarray(out.deltas, float), -1, 0)
    x, y = x + dx * w, y + dy * h
    w, h = (n * np.minimum(np.exp(d), MOST_ENLARGED) for n, d in ((w, dw), (h, dh)))
    boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)
    return np.clip(boxes, 0, [hw[1], hw[0], hw[1], hw[0]])


def iou(a, b):
    """Intersection over union of boxes a [N,4] with b [M,4]: [N,M]; 0 for a box without area."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inter = np.maximum(size, 0).prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
    union = area_a[:, None] + area_b - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def generate_proposals(hw, rpn, *, config):
    """The best of each level, each kept unless it overlaps a better one that is kept; then the best of all levels."""
    kept, scores = [], []
    for out, stride in zip(rpn, config.strides):
        boxes = _decoded(hw, out, stride, config).reshape(-1, 4)
        score = out.scores.ravel()
        best = np.argsort(-score)[: config.proposals_per_level]
        overlaps = iou(boxes[best], boxes[best])
        chosen = []
        for i in range(len(best)):
            if not chosen or overlaps[i, chosen].max() <= config.rpn_nms:
                chosen.append(i)
        kept.append(boxes[best[chosen]])
        scores.append(score[best[chosen]])
    best = np.argsort(-np.concatenate(scores))[: config.proposals]
    return Rois(np.concatenate(kept)[best], len(best))


def proposals_are_clear(hw, rpn, *, config):
    """Whether no two candidates overlap so nearly by the limit that rounding decides which of them stays."""
    for out, stride in zip(rpn, config.strides):
        boxes = _decoded(hw, out, stride, config).reshape(-1, 4)
        boxes = boxes[np.argsort(-out.scores.ravel())[: config.proposals_per_level]]
        if _near(iou(boxes, boxes), config.rpn_nms, boxes):
            return False
    return True


def _near(overlaps, limit, boxes):
    """Whether an overlap of two of the boxes is within rounding of the limit: coordinates of some 100 px are rounded by
    1e-5 px, which counts the more the smaller the box is."""
    side = np.maximum((boxes[:, 2:] - boxes[:, :2]).min(1), 1e-6)
    return (np.abs(overlaps - limit) < np.minimum(1e-5 + 1e-4 / np.minimum.outer(side, side), 0.1)).any()


def candidates(proposals, truth, config):
    """What SAMPLE_TARGETS may draw from: boxes [p+g,4], which of them are foreground, and the object of each."""
    boxes = np.concatenate([proposals.boxes, truth.boxes])
    overlaps = np.pad(iou(boxes, truth.boxes), [(0, 0), (0, 1)])
    return boxes, overlaps.max(1) >= config.roi_fg_iou, overlaps.argmax(1)


def targets_are_clear(hw, proposals, truth, *, config):
    """Whether no proposal is so near the limit of foreground, or between two objects, that rounding decides."""
    boxes = np.concatenate([proposals.boxes, truth.boxes])
    if len(np.unique(boxes, axis=0)) < len(boxes):
        return False
    overlaps = iou(boxes, truth.boxes)
    ranked = np.sort(np.pad(overlaps, [(0, 0), (2, 0)]), axis=1)
    tied = (ranked[:, -1] - ranked[:, -2] < 1e-3) & (ranked[:, -1] > 0.9 * config.roi_fg_iou)
    return not tied.any() and not (np.abs(overlaps - config.roi_fg_iou) < 1e-3).any()


def _samples(box, n):
    """Where the middles of the n x n cells of a box stand: x [n] and y [n]."""
    x1, y1, x2, y2 = np.asarray(box, float)
    step = (np.arange(n) + 0.5) / n
    return x1 + step * (x2 - x1), y1 + step * (y2 - y1)


def _tents(places, cells):
    """[n,cells]: how much each cell, whose value stands at its index, counts at each place: linearly less up to the
    next cell, and nothing beyond."""
    return np.maximum(1 - np.abs(places[:, None] - np.arange(cells)), 0)


def _level(box, config):
    """The FPN level of a box: that of stride 16 at canonical_size, one finer for every halving of its size."""
    x1, y1, x2, y2 = np.asarray(box, float)
    size = np.sqrt(max((x2 - x1) * (y2 - y1), 1e-6))
    return int(np.clip(np.floor(np.log2(size / config.canonical_size)) + config.strides.index(16), 0, 3))


def _roi_align(features, rois, size, config):
    crops = []
    for box in rois.boxes:
        level = _level(box, config)
        stride, feature = config.strides[level], np.asarray(features[level], float)
        x, y = (places / stride - 0.5 for places in _samples(box, 2 * size))
        fine = np.einsum("ih,jw,hwc->ijc", *map(_tents, (y, x), feature.shape[:2]), feature, optimize=True)
        crops.append(fine.reshape(size, 2, size, 2, -1).mean(axis=(1, 3)))
    return np.array(crops).reshape(-1, size, size, features[0].shape[-1])


def roi_align_box(hw, features, rois, *, config):
    return _roi_align(features, rois, config.box_crop, config)


def roi_align_mask(hw, features, rois, *, config):
    return _roi_align(features, rois, config.mask_crop, config)


def ramp_crops(size, rois, config):
    """RoIAlign of a ramp, by hand: the mean of samples of a plane is its height in the middle of the cell."""
    crops = []
    for box in rois.boxes:
        x, y = _samples(box, size)
        crops.append(ramp(x[None, :, None], y[:, None, None], np.arange(config.fpn_channels)))
    return np.array(crops).reshape(-1, size, size, config.fpn_channels)


def samples_are_clear(features, rois, size, config):
    """Whether no sample stands so near a cell's value, where the slope changes, that rounding decides which slope the
    gradient sees; and no box so near the size between two levels."""
    for box in np.asarray(rois.boxes, float):
        stride = config.strides[_level(box, config)]
        places = np.concatenate(_samples(box, 2 * size)) / stride - 0.5
        if (np.abs(places - np.round(places)) < 2e-4).any():
            return False
        if any(_level(box * f, config) != _level(box, config) for f in (1 - 1e-5, 1 + 1e-5)):
            return False
    return True


def fast_rcnn_outputs(hw, hidden, rois, *, config, weights):
    w = {name: np.asarray(value, float) for name, value in weights.items()}
    hidden = np.asarray(hidden, float)
    deltas = hidden @ w["fastrcnn/box/W"] + w["fastrcnn/box/b"]
    logits = hidden @ w["fastrcnn/class/W"] + w["fastrcnn/class/b"]
    return BoxOutputs(logits, deltas.reshape(-1, config.classes, 4))


def fast_rcnn_losses(hw, outputs, rois, truth, *, config):
    """RoI by RoI."""
    entropy = error = 0.0
    for logits, deltas, box, label, index in zip(*outputs, rois.boxes, rois.labels, rois.gt_index):
        logits = np.asarray(logits, float)
        entropy += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]
        if label > 0:
            target = _encoded(truth.boxes[index], box) / np.array(config.box_delta_std)
            error += _huber(deltas[label - 1] - target, 1.0).sum()
    number = max(len(rois.boxes), 1)
    return entropy / number, error / number


def _encoded(box, anchor):
    """The deltas that take an anchor to a box: shifts over its size, and logarithms of the ratios of sizes."""
    box, anchor = np.asarray(box, float), np.asarray(anchor, float)
    size, old = np.maximum(box[2:] - box[:2], 1e-3), np.maximum(anchor[2:] - anchor[:2], 1e-3)
    return np.concatenate([((box[:2] + box[2:]) - (anchor[:2] + anchor[2:])) / 2 / old, np.log(size / old)])


def crop_and_resize_mask(hw, truth, rois, *, config):
    """1 where at least half is covered; NaN where it is half to within rounding."""
    m = 2 * config.mask_crop
    crops = []
    for box, index in zip(rois.boxes, rois.gt_index):
        x, y = (places - 0.5 for places in _samples(box, m))
        mask = truth.masks[index].astype(float)
        covered = np.einsum("ih,jw,hw->ij", *map(_tents, (y, x), mask.shape), mask, optimize=True)
        crops.append(np.where(np.abs(covered - 0.5) < 1e-3, np.nan, covered >= 0.5))
    return np.array(crops).reshape(-1, m, m)


def mask_loss(hw, logits, targets, rois, *, config):
    losses = []
    for logit, target, label in zip(np.asarray(logits, float), targets, rois.labels):
        own = logit[:, :, label - 1]
        losses.append((np.logaddexp(0, own) - target * own).mean())
    return float(np.mean(losses)) if losses else 0.0
