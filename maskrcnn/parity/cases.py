"""Random canonical inputs, in the cases that separated right pieces from wrong ones. Free of TensorFlow.

Inputs are made image by image, without padding or image index, and put together by `stack` afterwards. So a batch in
another order, or with more padding, is the same images stacked otherwise; and whatever a reference computes for each
image is stacked alike to say what the piece should give for the batch.
"""

import dataclasses
import zlib
from typing import NamedTuple, Optional

import numpy as np

from maskrcnn.anchors import extents
from maskrcnn.data.loading import padded_size
from maskrcnn.structures import BoxOutputs, GroundTruth, Rois, RpnOut, RpnTargets

ATTEMPTS = 1000  # at inputs on which rounding decides nothing; one to five are needed
MORE_PADDING = 64  # pixels at the bottom and the right; a multiple of every stride


class Case(NamedTuple):
    """One batch: how many objects and proposals each image has, and what its boxes are like."""

    name: str
    images: tuple  # of (objects, proposals)
    boxes: str = "inside"
    source: str = ""  # the case whose images these are, stacked otherwise; "" for images of its own
    order: Optional[tuple] = None
    extra: int = 0
    only: tuple = ()  # the flags it is for; () for all

    @property
    def batch(self):
        return len(self.images)


UNEQUAL = ((3, 12), (1, 6), (4, 9))
ROI_ALIGN = ("ROI_ALIGN_BOX", "ROI_ALIGN_MASK")
CASES = (
    Case("one image", ((3, 10),)),
    Case("one empty image", ((0, 0),)),
    Case("unequal", UNEQUAL),
    Case("some empty", ((2, 8), (0, 5), (3, 0))),
    Case("all empty", ((0, 0),) * 3),
    Case("border", UNEQUAL, boxes="border"),
    Case("extreme sizes", UNEQUAL, boxes="extreme"),
    Case("permuted", UNEQUAL, source="unequal", order=(2, 0, 1)),
    Case("more padding", UNEQUAL, source="unequal", extra=MORE_PADDING),
    Case("ramp", UNEQUAL, boxes="ramp", only=ROI_ALIGN),
    # No standard piece makes such targets: what differs here differs only beside a piece that breaks its promise.
    Case("soft targets", UNEQUAL, boxes="soft targets", only=("MASK_LOSS",)),
)


def small(config):
    """`config` with few channels and low limits: no piece treats one channel unlike another, and low limits bind.

    Images keep their size, and are not grouped by their shape, which would carry some over into the next epoch.
    """
    return dataclasses.replace(
        config,
        classes=min(config.classes, 5),
        fpn_channels=8,
        gn_groups=8,
        width=8,
        proposals_per_level=min(config.proposals_per_level, 40),
        proposals=min(config.proposals, 40),
        roi_samples=min(config.roi_samples, 8),
        rpn_samples=min(config.rpn_samples, 32),
        short_edge=0,
        group_aspect=False,
    )


def generator(seed, flag, name):
    """The random numbers of what is called `name`: the same whatever else is tried out."""
    return np.random.default_rng([seed, zlib.crc32(flag.encode()), zlib.crc32(name.encode())])


def drawn_until(clear, draw):
    """What `draw()` gives, drawn again until `clear(it)`. Raises RuntimeError if that never happens."""
    for _ in range(ATTEMPTS):
        found = draw()
        if clear(found):
            return found
    raise RuntimeError(f"no inputs clear of rounding in {ATTEMPTS} attempts")


class Image:
    """Draws one image's inputs: `objects` objects, `proposals` RoIs. All coordinates are in pixels."""

    def __init__(self, rng, config, objects, proposals, boxes):
        self._rng, self.config, self._kind = rng, config, boxes
        self.objects, self.proposals = objects, proposals
        # The ramp needs room for boxes of every level within the image.
        low, high = (2.2, 3.0) if boxes == "ramp" else (0, 0)
        size = config.canonical_size
        self.hw = rng.integers(int(low * size) or 40, int(high * size) or 129, 2).astype(np.int32)

    def map(self, stride, *channels):
        return self._rng.normal(size=(*extents(self.hw, stride), *channels)).astype(np.float32)

    def features(self):
        """Numbers of few bits, whose sums are exact in float32 and so cannot depend on the order of addition."""
        c = self.config
        if self._kind == "ramp":
            return tuple(ramp(*centres(self.hw, s), np.arange(c.fpn_channels)).astype(np.float32) for s in c.strides)
        return tuple(np.round(8 * self.map(s, c.fpn_channels)) / 8 for s in c.strides)

    def rpn(self):
        """Scores that are all different, and far from equal between images: a choice over all images shows."""
        a = len(self.config.anchor_ratios)
        shapes = [(*extents(self.hw, s), a) for s in self.config.strides]
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        order = self._rng.permutation(ends[-1]) / ends[-1]
        scores = np.split((6 * order - 3 + self._rng.normal()).astype(np.float32), ends[:-1])
        # Deltas are shifts over the size of the anchor, and logarithms of sizes.
        spread = {"border": [1.5, 1.5, 0.3, 0.3], "extreme": [0.3, 0.3, 2.5, 2.5]}.get(self._kind, [0.3] * 4)
        deltas = [(self._rng.normal(size=(*s, 4)) * spread).astype(np.float32) for s in shapes]
        return tuple(RpnOut(s.reshape(shape), d) for s, shape, d in zip(scores, shapes, deltas))

    def rpn_targets(self):
        """Labels -1, 0 and 1; an image without objects has no 1, and one without proposals either is not sampled."""
        a = len(self.config.anchor_ratios)
        high = 2 if self.objects else 1 if self.proposals else 0
        found = []
        for s in self.config.strides:
            labels = self._rng.integers(-1, high, (*extents(self.hw, s), a)).astype(np.int32)
            found.append(RpnTargets(labels, self.map(s, a, 4)))
        return tuple(found)

    def boxes(self, n):
        h, w = self.hw
        low, high = {"extreme": (0.5, 3 * self.config.canonical_size)}.get(self._kind, (3, 80))
        if self._kind == "ramp":
            low, high = 8, 2.1 * self.config.canonical_size
        # Sizes at even steps of their logarithm, so that the whole range is there: tiny, huge and every FPN level.
        size = low * (high / low) ** ((np.arange(n) + self._rng.random(n)) / max(n, 1))
        shape = np.exp(self._rng.normal(size=n) * (0.02 if self._kind == "ramp" else 0.2))
        half = np.stack([size * shape, size / shape], axis=1) / 2
        centre = self._rng.random((n, 2)) * [w, h]
        if self._kind == "border":  # corners and edges of the image lie inside these boxes, or on their edges
            centre = np.where(self._rng.random((n, 2)) < 0.5, np.round(centre / [w, h]) * [w, h], centre)
        if self._kind == "ramp":  # a sample at the border has no neighbour to go between
            margin = half + self.config.strides[3] / 2
            centre = np.clip(centre, margin, [w, h] - margin)
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        if self._kind == "border":  # half of them cut off at the border, half reaching over it
            boxes[::2] = np.clip(boxes[::2], 0, [w, h, w, h])
        if self._kind == "inside":
            boxes = np.clip(boxes, 0, [w, h, w, h])
        return self._rng.permutation(boxes).astype(np.float32)

    def ground_truth(self):
        n, (h, w) = self.objects, self.hw
        boxes = np.clip(self.boxes(n), 0, [w, h, w, h]).astype(np.float32)
        labels = self._rng.integers(1, self.config.classes + 1, n).astype(np.int32)
        # Objects with holes, so that a crop of the wrong place, or of another object, shows.
        masks = (self._rng.random((n, h, w)) < 0.7).astype(np.uint8)
        x, y = np.arange(w) + 0.5, np.arange(h) + 0.5
        for mask, (x1, y1, x2, y2) in zip(masks, boxes):
            mask *= ((y >= y1) & (y <= y2))[:, None] & ((x >= x1) & (x <= x2))
        return GroundTruth(boxes, labels, masks, np.int32(n))

    def rois(self):
        return Rois(self.boxes(self.proposals), np.int32(self.proposals))

    def labelled_rois(self, truth, foreground):
        """RoIs matched to objects of `truth`; background among them unless `foreground`."""
        n = 0 if foreground and not self.objects else self.proposals
        low = 0 if foreground or not self.objects else -1
        index = self._rng.integers(low, self.objects, n) if self.objects else np.full(n, -1)
        labels = np.where(index >= 0, truth.labels[index], 0) if self.objects else np.zeros(n)
        return Rois(self.boxes(n), np.int32(n), labels.astype(np.int32), index.astype(np.int32))

    def rows(self, n, *channels):
        return self._rng.normal(size=(n, *channels)).astype(np.float32)

    def mask_targets(self, n):
        m = 2 * self.config.mask_crop
        soft = self._rng.random((n, m, m)).astype(np.float32)
        return soft if self._kind == "soft targets" else np.round(soft)


def centres(hw, stride):
    """x [1,w,1] and y [h,1,1] of the middles of the cells of a level, in pixels."""
    h, w = extents(hw, stride)
    return (np.arange(w)[None, :, None] + 0.5) * stride, (np.arange(h)[:, None, None] + 0.5) * stride


def ramp(x, y, channel):
    """A plane for every channel: what bilinear sampling must give back exactly at any place."""
    return 1 + channel + (0.01 + 0.002 * channel) * x - 0.015 * y


def stack(items, hw, config, extra=0):
    """One argument or result of a piece, image by image -> the canonical one of the batch.

    items: a value an image; hw [B,2] their sizes; `extra` pixels more of padding, and an object more.
    """
    first = items[0]
    if first is None:
        return None
    if isinstance(first, Rois):
        index = np.repeat(np.arange(len(items)), [len(r.boxes) for r in items])[:, None]
        columns = list(zip(*items))
        boxes = np.concatenate([index.astype(columns[0][0].dtype), np.concatenate(columns[0])], axis=1)
        rest = [None if c[0] is None else np.concatenate(c) for c in columns[2:]]
        return Rois(boxes, np.array(columns[1], np.int32), *rest)
    size = [n + extra for n in padded_size(hw, config)]
    if isinstance(first, GroundTruth):
        most = max(len(t.boxes) for t in items) + (1 if extra else 0)
        boxes, labels, masks, counts = zip(*items)
        return GroundTruth(
            padded(boxes, (most, 4)), padded(labels, (most,), -1), padded(masks, (most, *size)), np.array(counts)
        )
    if isinstance(first, BoxOutputs):
        return BoxOutputs(*(np.concatenate(column) for column in zip(*items)))
    if isinstance(first, tuple) and isinstance(first[0], float):
        return tuple(np.mean(column) for column in zip(*items))  # losses
    if isinstance(first, tuple):
        levels = []
        for stride, level in zip(config.strides, zip(*items)):
            cells = tuple(-(-n // stride) for n in size)
            if isinstance(level[0], tuple):
                kind = type(level[0])
                columns = zip(*level)
                levels.append(kind(*(padded(c, cells + c[0].shape[2:], -(c[0].dtype.kind == "i")) for c in columns)))
            else:
                levels.append(padded(level, cells + level[0].shape[2:]))
        return tuple(levels)
    return np.mean(items) if isinstance(first, float) else np.concatenate(items)


def padded(arrays, shape, fill=0):
    """Arrays of different sizes, stacked: [B,*shape], with `fill` where one of them ends earlier."""
    out = np.full((len(arrays), *shape), fill, arrays[0].dtype)
    for row, array in zip(out, arrays):
        row[tuple(slice(n) for n in array.shape)] = array
    return out
