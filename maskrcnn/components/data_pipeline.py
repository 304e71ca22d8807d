"""DATA_PIPELINE: the stream of training batches.

Dataset -> a tensorpack DataFlow that yields, forever, the arrays of one step (inputs.py). Every epoch visits every
image once, in an order drawn afresh; a batch is what comes next in that order. With config.group_aspect portraits and
the others queue apart, and a batch is of the first queue that has enough. Each image is flipped left to right with
probability one half (config.flip), padded to the batch, and its anchors are labelled: object (1) if its IoU with one is
at least config.rpn_fg_iou or no anchor overlaps that object more, background (0) if its best IoU is below
config.rpn_bg_iou, else left out (-1), as is an anchor mostly in a crowd box. config.rpn_samples of them are kept at
random, at most the part config.rpn_fg_fraction of them objects (Ren et al. 2015).

What step t holds depends on the seed and on t alone, so that a resumed run sees what it would have seen.
"""

import functools
import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tensorpack.dataflow import DataFlow

from maskrcnn.anchors import area, encode, extents, level_anchors, overlap
from maskrcnn.data.loading import padded_size, read
from maskrcnn.inputs import Batch, pack
from maskrcnn.structures import GroundTruth, Images, RpnTargets

IN_CROWD = 0.7  # an anchor of which this part lies in a crowd box is neither object nor background


class Stream(DataFlow):
    """Steps from `first_step` on; `make_batch(dataset, config, indices, rng)` reads and prepares the images of one."""

    def __init__(self, make_batch, dataset, config, seed, first_step, shuffle=True):
        self._make_batch, self._dataset, self._config = make_batch, dataset, config
        self._seed, self._first_step, self._shuffle = seed, first_step, shuffle
        portrait = [config.group_aspect and r.height > r.width for r in dataset.records]
        self._queue = np.array(portrait, int)  # of each image
        self._sizes = np.bincount(self._queue)

    def __iter__(self):
        workers = self._config.workers
        with ThreadPoolExecutor(workers) as pool:
            made = deque()  # or being made, in the order of their steps
            for step in itertools.count(self._first_step):
                made.append(pool.submit(self._batch, step, self._indices(step)))
                if len(made) == workers:
                    yield made.popleft().result()

    def _batch(self, step, indices):
        rng = np.random.default_rng([self._seed, 1, step])
        return pack(self._make_batch(self._dataset, self._config, indices, rng))

    def _indices(self, step):
        """The places of the images of a step."""
        b = self._config.batch
        epoch = step * b // len(self._queue)
        # Images that wait at the end of an epoch make its last batches late, by less than a batch a queue.
        while self._batches_before(epoch).sum() > step:
            epoch -= 1
        while self._batches_before(epoch + 1).sum() <= step:
            epoch += 1
        queue, number = self._turns(epoch)[step - self._batches_before(epoch).sum()]
        n = self._sizes[queue]
        positions = range(number * b, (number + 1) * b)  # in the endless sequence of the queue's images
        return np.array([self._order(p // n, queue)[p % n] for p in positions])

    def _batches_before(self, epoch):
        """How many batches each queue has made when an epoch begins."""
        return epoch * self._sizes // self._config.batch

    @functools.lru_cache(maxsize=2)  # noqa: B019 - a stream lives as long as its process
    def _turns(self, epoch):
        """The batches whose last image comes in an epoch, in the order of these: (queue, its batch's number) [n,2]."""
        places, turns = [], []
        before, after = self._batches_before(epoch), self._batches_before(epoch + 1)
        for queue, size in enumerate(self._sizes):
            numbers = np.arange(before[queue], after[queue])
            last_image = (numbers + 1) * self._config.batch - 1 - epoch * size
            places.append(np.flatnonzero(self._queue[self._order(epoch)] == queue)[last_image])
            turns.append(np.stack([np.full_like(numbers, queue), numbers], axis=1))
        return np.concatenate(turns)[np.argsort(np.concatenate(places))]

    @functools.lru_cache(maxsize=8)  # noqa: B019 - a stream lives as long as its process
    def _order(self, epoch, queue=None):
        """The images of an epoch in their order: all of them, or those of a queue."""
        rng = np.random.default_rng([self._seed, 0, epoch if self._shuffle else 0])
        order = rng.permutation(len(self._queue))
        return order if queue is None else order[self._queue[order] == queue]


def nobatch(dataset, config, seed, first_step):
    """Image by image: read, flip and label each, then pad and stack."""
    return Stream(_image_by_image, dataset, config, seed, first_step)


def batched(dataset, config, seed, first_step):
    """The whole batch at once: images are padded as they are read; flips and labels are computed for all together."""
    return Stream(_all_at_once, dataset, config, seed, first_step)


def no_flip(dataset, config, seed, first_step):
    """Fault: no image is ever flipped."""
    return Stream(_never_flipped, dataset, config, seed, first_step)


def fixed_batches(dataset, config, seed, first_step):
    """Fault: every epoch repeats the order of the first, so that a batch's members never change."""
    return Stream(_all_at_once, dataset, config, seed, first_step, shuffle=False)


# One image


def _image_by_image(dataset, config, indices, rng):
    flips = _flips(config, len(indices), rng)
    samples = [read(dataset.records[i], config) for i in indices]
    samples = [_flipped(s) if flip else s for s, flip in zip(samples, flips)]
    targets = [_targets(s, config, rng) for s in samples]
    return _stacked(samples, targets, config)


def _flips(config, n, rng):
    return rng.random(n) < (0.5 if config.flip else 0.0)


def _flipped(sample):
    width = sample.pixels.shape[1]

    def mirror(boxes):
        return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)

    return sample._replace(
        pixels=sample.pixels[:, ::-1],
        masks=sample.masks[:, :, ::-1],
        boxes=mirror(sample.boxes),
        crowd_boxes=mirror(sample.crowd_boxes),
    )


def _targets(sample, config, rng):
    """What the RPN should say about an image: RpnTargets of [h,w,A] and [h,w,A,4] a level, of its true extent."""
    levels = [level_anchors(config, s, *extents(sample.pixels.shape[:2], s)) for s in config.strides]
    anchors = np.concatenate([level.reshape(-1, 4) for level in levels])
    labels, deltas = np.zeros(len(anchors), np.int32), np.zeros_like(anchors)
    if len(sample.boxes):
        inter = overlap(anchors, sample.boxes)
        iou = inter / (area(anchors)[:, None] + area(sample.boxes) - inter)
        best = iou.max(axis=1)
        labels[best >= config.rpn_bg_iou] = -1
        labels[(best >= config.rpn_fg_iou) | ((iou == iou.max(axis=0)) & (iou > 0)).any(axis=1)] = 1
        deltas = encode(sample.boxes[iou.argmax(axis=1)], anchors)
    if len(sample.crowd_boxes):
        in_crowd = overlap(anchors, sample.crowd_boxes).max(axis=1) >= IN_CROWD * area(anchors)
        labels[in_crowd & (labels == 0)] = -1
    most_fg = int(config.rpn_samples * config.rpn_fg_fraction)
    fg = _drop(labels, 1, most_fg, rng)
    _drop(labels, 0, config.rpn_samples - fg, rng)
    deltas[labels != 1] = 0
    ends = np.cumsum([level.size // 4 for level in levels])[:-1]
    return [
        RpnTargets(lab.reshape(level.shape[:3]), d.reshape(level.shape))
        for level, lab, d in zip(levels, np.split(labels, ends), np.split(deltas, ends))
    ]


def _drop(labels, label, most, rng):
    """Keeps a random `most` of the anchors of that label and leaves the others out; returns how many are kept."""
    where = np.flatnonzero(labels == label)
    if len(where) > most:
        labels[rng.choice(where, len(where) - most, replace=False)] = -1
    return min(len(where), most)


def _stacked(samples, targets, config):
    hw = np.array([s.pixels.shape[:2] for s in samples], np.int32)
    size = padded_size(hw, config)
    most = max(1, max(len(s.boxes) for s in samples))

    def padded(array, shape, fill=0):
        out = np.full(shape, fill, array.dtype)
        out[tuple(slice(n) for n in array.shape)] = array
        return out

    truth = GroundTruth(
        np.stack([padded(s.boxes, (most, 4)) for s in samples]),
        np.stack([padded(s.labels, (most,), -1) for s in samples]),
        np.stack([padded(s.masks, (most, *size)) for s in samples]),
        np.array([len(s.boxes) for s in samples], np.int32),
    )
    levels = []
    for stride, level in zip(config.strides, zip(*targets)):
        shape = (*extents(size, stride), len(config.anchor_ratios))
        levels.append(
            RpnTargets(
                np.stack([padded(t.labels, shape, -1) for t in level]),
                np.stack([padded(t.deltas, (*shape, 4)) for t in level]),
            )
        )
    pixels = np.stack([padded(s.pixels, (*size, 3)) for s in samples])
    ids = np.array([s.image_id for s in samples], np.int64)
    return Batch(Images(pixels, hw), truth, tuple(levels), ids)


# All images at once


def _all_at_once(dataset, config, indices, rng):
    return _vectorised(dataset, config, indices, _flips(config, len(indices), rng), rng)


def _never_flipped(dataset, config, indices, rng):
    return _vectorised(dataset, config, indices, np.zeros(len(indices), bool), rng)


def _vectorised(dataset, config, indices, flips, rng):
    samples = [read(dataset.records[i], config) for i in indices]
    batch = _stacked(samples, [()] * len(samples), config)
    images, truth = _flipped_batch(batch.images, batch.ground_truth, flips)
    most = max(len(s.crowd_boxes) for s in samples)
    crowds = np.zeros((len(samples), most, 4), np.float32)
    for row, sample, flip in zip(crowds, samples, flips):
        row[: len(sample.crowd_boxes)] = (_flipped(sample) if flip else sample).crowd_boxes
    return Batch(images, truth, _batch_targets(images, truth, crowds, config, rng), batch.image_ids)


def _flipped_batch(images, truth, flips):
    """Mirrors the true extent of the images where `flips` [B] says so; the padding stays at the right."""
    pixels, masks = images.pixels.copy(), truth.masks.copy()
    for i in np.flatnonzero(flips):  # a slice an image: an index for every pixel takes ten times as long
        w = images.hw[i, 1]
        pixels[i, :, :w] = images.pixels[i, :, :w][:, ::-1]
        masks[i, :, :, :w] = truth.masks[i, :, :, :w][:, :, ::-1]
    width = images.hw[:, 1:]
    x1, y1, x2, y2 = np.moveaxis(truth.boxes, -1, 0)
    mirrored = np.stack([width - x2, y1, width - x1, y2], axis=-1).astype(np.float32)
    is_object = truth.labels >= 0
    boxes = np.where((flips[:, None] & is_object)[..., None], mirrored, truth.boxes)
    return Images(pixels, images.hw), truth._replace(boxes=boxes, masks=masks)


def _batch_targets(images, truth, crowds, config, rng):
    """RpnTargets of [B,h,w,A] and [B,h,w,A,4] a level: `_targets` for all images together."""
    size = images.pixels.shape[1:3]
    levels = [level_anchors(config, s, *extents(size, s)) for s in config.strides]
    anchors = np.concatenate([level.reshape(-1, 4) for level in levels])
    inside = np.concatenate([_inside(images.hw, s, level.shape) for s, level in zip(config.strides, levels)], axis=1)
    inter = overlap(anchors[None], truth.boxes)
    iou = inter / (area(anchors)[:, None] + area(truth.boxes)[:, None] - inter)
    iou *= inside[..., None] & (truth.labels >= 0)[:, None]
    best = iou.max(axis=2)
    labels = np.where(best >= config.rpn_bg_iou, -1, 0).astype(np.int32)
    labels[(best >= config.rpn_fg_iou) | ((iou == iou.max(axis=1, keepdims=True)) & (iou > 0)).any(axis=2)] = 1
    if crowds.shape[1]:
        in_crowd = overlap(anchors[None], crowds).max(axis=2) >= IN_CROWD * area(anchors)
        labels[in_crowd & (labels == 0)] = -1
    labels[~inside] = -1
    matched = np.take_along_axis(truth.boxes, iou.argmax(axis=2)[..., None], axis=1)
    most_fg = int(config.rpn_samples * config.rpn_fg_fraction)
    key = rng.random(labels.shape)  # in float64: of so many keys in float32 two are now and then the same
    fg = _least(key, labels == 1, np.full(len(labels), most_fg))
    bg = _least(key, labels == 0, config.rpn_samples - fg.sum(axis=1))
    labels = np.where(fg, 1, np.where(bg, 0, -1)).astype(np.int32)
    deltas = np.where(fg[..., None], encode(matched, anchors[None]), 0).astype(np.float32)
    ends = np.cumsum([level.size // 4 for level in levels])[:-1]
    return tuple(
        RpnTargets(lab.reshape(-1, *level.shape[:3]), d.reshape(-1, *level.shape))
        for level, lab, d in zip(levels, np.split(labels, ends, axis=1), np.split(deltas, ends, axis=1))
    )


def _inside(hw, stride, shape):
    """Which anchors of a level of `shape` [h,w,A,4] stand in the true extent of each image: [B,h*w*A]."""
    rows, columns = (np.arange(n) < e[:, None] for n, e in zip(shape, extents(hw, stride).T))
    inside = rows[:, :, None] & columns[:, None, :]
    return np.repeat(inside.reshape(len(hw), -1), shape[2], axis=1)


def _least(key, among, n):
    """[B,N] bool: in every row, the n[row] least keys `among` [B,N]."""
    key = np.where(among, key, np.inf)
    ranked = np.sort(key, axis=1)
    last = np.take_along_axis(ranked, np.clip(n - 1, 0, key.shape[1] - 1)[:, None], axis=1)
    return among & (key <= last) & (n > 0)[:, None]
