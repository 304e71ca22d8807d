"""Lifts a function of one image to a batch: the one place where batches are taken apart and put together."""

import functools

import tensorflow as tf

from maskrcnn.structures import BoxOutputs, GroundTruth, Rois, RpnOut, RpnTargets


def per_image(fn):
    """A piece for a batch out of one for an image.

    `fn(hw, *canonical, **keywords)` sees what the batch holds for one image, without padding and without the batch
    axis: hw [2]; feature maps [h,w,C] of the image's true extent; GroundTruth of its own objects; Rois with boxes
    [r,4]; rows of RoI tensors [r,...] that are its own. A `seed` keyword is made different for every image.
    What it returns is joined again: losses (scalars) are averaged over images, RoIs and their rows concatenated
    (with the image index put in front of the boxes), maps padded and stacked.
    """

    @functools.wraps(fn)
    def lifted(hw, *args, config, **keywords):
        batch = hw.shape[0]
        counts = next((a.counts for a in args if isinstance(a, Rois)), None)
        parts = [_split(arg, batch, hw, counts, config) for arg in args]
        outputs = []
        for i in range(batch):
            if "seed" in keywords:
                keywords["seed"] = keywords["seed"] + tf.constant([7919, 0])
            with tf.name_scope(f"image{i}"):
                outputs.append(fn(hw[i], *(p[i] for p in parts), config=config, **keywords))
        return _join(outputs, args)

    return lifted


def _split(arg, batch, hw, counts, config):
    """What each image sees of `arg`: a list of length `batch`."""
    if isinstance(arg, Rois):
        columns = [_rows(c, batch, counts) for c in (arg.boxes[:, 1:], arg.labels, arg.gt_index)]
        return [Rois(b, counts[i], lab, gt) for i, (b, lab, gt) in enumerate(zip(*columns))]
    if isinstance(arg, BoxOutputs):
        return [BoxOutputs(*columns) for columns in zip(*(_rows(c, batch, counts) for c in arg))]
    if isinstance(arg, GroundTruth):
        return [_own_objects(arg, i, hw) for i in range(batch)]
    if isinstance(arg, tuple):  # a pyramid: one entry a level
        return [tuple(_strip(level, i, hw, stride) for level, stride in zip(arg, config.strides)) for i in range(batch)]
    return _rows(arg, batch, counts)


def _rows(values, batch, counts):
    return [None] * batch if values is None else tf.split(values, counts, num=batch)


def _own_objects(gt, i, hw):
    n = gt.counts[i]
    return GroundTruth(gt.boxes[i, :n], gt.labels[i, :n], gt.masks[i, :n, : hw[i, 0], : hw[i, 1]], n)


def _strip(level, i, hw, stride):
    if isinstance(level, (RpnOut, RpnTargets)):
        return type(level)(*(_strip(t, i, hw, stride) for t in level))
    h, w = -(-hw[i, 0] // stride), -(-hw[i, 1] // stride)
    return level[i, :h, :w]


def _join(outputs, args):
    first = outputs[0]
    if isinstance(first, Rois):
        boxes = [tf.pad(o.boxes, [[0, 0], [1, 0]], constant_values=float(i)) for i, o in enumerate(outputs)]
        counts = tf.stack([tf.shape(o.boxes)[0] for o in outputs])
        rest = [None if column[0] is None else tf.concat(column, axis=0) for column in list(zip(*outputs))[2:]]
        return Rois(tf.concat(boxes, axis=0), counts, *rest)
    if isinstance(first, tuple) and isinstance(first[0], RpnOut):
        return tuple(_stack_level(levels, arg) for levels, arg in zip(zip(*outputs), args[0]))
    if isinstance(first, tuple):
        joined = [_join(column, args) for column in zip(*outputs)]
        return type(first)(*joined) if hasattr(first, "_fields") else tuple(joined)
    return tf.add_n(outputs) / len(outputs) if first.shape.rank == 0 else tf.concat(outputs, axis=0)


def _stack_level(outputs, features):
    """RpnOuts of one level, one an image, padded with zeros to the size of the batch's feature map and stacked."""
    size = tf.shape(features)[1:3]

    def stack(tensors):
        padded = []
        for t in tensors:
            missing = size - tf.shape(t)[:2]
            rest = [[0, 0]] * (t.shape.rank - 2)
            padded.append(tf.pad(t, [[0, missing[0]], [0, missing[1]], *rest]))
        return tf.stack(padded)

    return RpnOut(*(stack(column) for column in zip(*outputs)))
