"""Anchors and what the RPN should say about them, in numpy: anchors are assigned to objects before the graph."""

import functools

import numpy as np


def cell_anchors(config, stride):
    """The anchors of a cell whose centre is the origin: [A,4] xyxy float32, one for each ratio h/w, of equal area."""
    size = config.anchor_scale * stride
    ratios = np.asarray(config.anchor_ratios)
    half = np.stack([size / np.sqrt(ratios), size * np.sqrt(ratios)], axis=1) / 2
    return np.concatenate([-half, half], axis=1).astype(np.float32)


@functools.lru_cache(maxsize=256)
def level_anchors(config, stride, h, w):
    """All anchors of a level of h by w cells: [h,w,A,4] float32."""
    x = (np.arange(w, dtype=np.float32) + 0.5) * stride
    y = (np.arange(h, dtype=np.float32) + 0.5) * stride
    x, y = np.meshgrid(x, y)
    return np.stack([x, y, x, y], axis=-1)[:, :, None] + cell_anchors(config, stride)


def extents(hw, stride):
    """Cells that an image of size hw ([...,2]) truly covers at a stride: ceil(size / stride)."""
    return -(-np.asarray(hw) // stride)


def overlap(a, b):
    """Intersection of boxes a [...,N,4] with b [...,M,4], in square pixels: [...,N,M]."""

    def along(low, high):  # one axis at a time: numpy is slow over a last axis of two
        common = np.minimum(a[..., :, None, high], b[..., None, :, high])
        common -= np.maximum(a[..., :, None, low], b[..., None, :, low])
        return np.maximum(common, 0, out=common)

    return along(0, 2) * along(1, 3)


def area(boxes):
    """Areas of boxes [...,4] in square pixels."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.maximum(width, 0) * np.maximum(height, 0)


def encode(boxes, anchors):
    """Deltas that take `anchors` to `boxes`, both [...,4]: shifts over the anchor's size and log ratios of sizes
    (Girshick et al., "Rich feature hierarchies", 2014, appendix C)."""
    size_a = anchors[..., 2:] - anchors[..., :2]
    size = np.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
    shift = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2 / size_a
    return np.concatenate([shift, np.log(size / size_a)], axis=-1).astype(np.float32)
