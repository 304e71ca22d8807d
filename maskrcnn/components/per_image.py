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

    The graph holds it once, as a function that is called for every image: building it takes as long at any batch size.
    """

    @functools.wraps(fn)
    def lifted(hw, *args, config, seed=None, **keywords):
        batch = hw.shape[0]

        def one_image(hw, *args, **seeds):
            own = (_strip(arg, hw, config) for arg in args)
            return fn(hw, *own, config=config, **keywords, **seeds)

        # Left as a call: put in its place, it would be as large a graph again for all that comes before the first step.
        call = tf.function(one_image, autograph=False, experimental_attributes={"_noinline": True})
        counts = next((a.counts for a in args if isinstance(a, Rois)), None)
        images = zip(tf.unstack(hw), *(_take_apart(arg, batch, counts) for arg in args))
        seeds = [{} if seed is None else {"seed": seed + tf.constant([7919 * (i + 1), 0])} for i in range(batch)]
        return _join([call(*image, **own) for image, own in zip(images, seeds)], args)

    return lifted


def _take_apart(arg, batch, counts):
    """What of `arg` belongs to each image, padding included: a list of length `batch`."""
    if isinstance(arg, Rois):
        columns = (_rows(c, batch, counts) for c in (arg.boxes[:, 1:], arg.labels, arg.gt_index))
        return [Rois(boxes, n, *rest) for n, (boxes, *rest) in zip(tf.unstack(counts), zip(*columns))]
    if isinstance(arg, (GroundTruth, RpnOut, RpnTargets)):
        return [type(arg)(*columns) for columns in zip(*(tf.unstack(c) for c in arg))]
    if isinstance(arg, BoxOutputs):
        return [BoxOutputs(*columns) for columns in zip(*(_rows(c, batch, counts) for c in arg))]
    if isinstance(arg, tuple):  # a pyramid: one entry a level
        return list(zip(*(tf.unstack(x) if tf.is_tensor(x) else _take_apart(x, batch, counts) for x in arg)))
    return _rows(arg, batch, counts)


def _rows(values, batch, counts):
    return [None] * batch if values is None else tf.split(values, counts, num=batch)


def _strip(arg, hw, config):
    """`arg` of one image without its padding."""
    if isinstance(arg, GroundTruth):
        n = arg.counts
        return GroundTruth(arg.boxes[:n], arg.labels[:n], arg.masks[:n, : hw[0], : hw[1]], n)
    if isinstance(arg, tuple) and not hasattr(arg, "_fields"):
        return tuple(_strip_level(level, hw, stride) for level, stride in zip(arg, config.strides))
    return arg


def _strip_level(level, hw, stride):
    if isinstance(level, tuple):
        return type(level)(*(_strip_level(t, hw, stride) for t in level))
    h, w = tf.unstack(-(-hw // stride))
    # Not level[:h, :w], whose gradient takes several times as long.
    rest = level.shape[2:]
    return tf.slice(level, [0] * (2 + len(rest)), [h, w, *rest])


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
