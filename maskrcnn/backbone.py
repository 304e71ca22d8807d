"""ResNet (He et al. 2016, stride in the 3x3 convolution) with a feature pyramid (Lin et al. 2017).

Not one of the pieces: the same computation whatever flags are on, always for the whole batch.
"""

import tensorflow as tf

from maskrcnn.layers import Extent, conv, norm

tfv1 = tf.compat.v1


def valid_cells(hw, padded, stride):
    """[B,h,w,1] float32: 1 in the cells of a map of stride `stride` that lie in the image's true extent.

    hw [B,2] true sizes, padded [2] the size of the batch.
    """
    extent, whole = -(-hw // stride), -(-padded // stride)
    rows = tf.sequence_mask(extent[:, 0], whole[0], tf.float32)
    columns = tf.sequence_mask(extent[:, 1], whole[1], tf.float32)
    return rows[:, :, None, None] * columns[:, None, :, None]


def pyramid(images, config):
    """Images -> a tuple of feature maps [B,H/s,W/s,fpn_channels], one for each of config.strides, zero outside
    the images' true extents."""
    padded = tf.shape(images.pixels)[1:3]
    extents = {s: Extent(valid_cells(images.hw, padded, s)) for s in (2, *config.strides)}
    with tfv1.variable_scope("resnet", reuse=tfv1.AUTO_REUSE):
        stages = _resnet(images.pixels, extents, config)
    with tfv1.variable_scope("fpn", reuse=tfv1.AUTO_REUSE):
        return _fpn(stages, extents, config)


def _padding(size, config):
    """How a layer of stride 2 and that size pads maps of even sides, so that they become half as large.

    One cell more goes to one end than to the other. TensorFlow's "SAME" puts it to the bottom and right. Most published
    weights were trained with it at the top and left, where output (i, j) stands on input (2 i, 2 j).
    """
    if not config.aligned_padding:
        return "SAME"
    ends = [size // 2, size - 2 - size // 2]
    return [[0, 0], ends, ends, [0, 0]]


def _frozen(x, stages, config):
    """x, where the first `stages` stages, which it comes from, are to stay as they are: without a gradient."""
    return tf.stop_gradient(x) if config.frozen_stages >= stages else x


def _resnet(x, extents, config):
    x = conv("conv0", x, config.width, 7, 2, bias=False, padding=_padding(7, config))
    x = tf.nn.relu(norm("conv0/norm", x, extents[2], config))
    if config.aligned_padding:
        x = tf.nn.max_pool2d(tf.pad(x, _padding(3, config)), 3, 2, "VALID") * extents[4].mask
    else:
        x = tf.nn.max_pool2d(x, 3, 2, "SAME") * extents[4].mask
    x = _frozen(x, 1, config)
    stages = []
    for i, blocks in enumerate(config.blocks):
        for j in range(blocks):
            stride = 2 if i > 0 and j == 0 else 1
            with tfv1.variable_scope(f"group{i}/block{j}", reuse=tfv1.AUTO_REUSE):
                x = _bottleneck(x, config.width * 2**i, stride, extents[4 * 2**i], extents[2 * 2**i], config)
        x = _frozen(x, i + 2, config)
        stages.append(x)
    return stages


def _bottleneck(x, channels, stride, extent, extent_before, config):
    before = extent_before if stride == 2 else extent
    shortcut = x
    if stride == 2 or x.shape[-1] != 4 * channels:
        shortcut = norm("shortcut/norm", conv("shortcut", x, 4 * channels, 1, stride, bias=False), extent, config)
    x = tf.nn.relu(norm("conv1/norm", conv("conv1", x, channels, 1, bias=False), before, config))
    x = conv("conv2", x, channels, 3, stride, bias=False, padding="SAME" if stride == 1 else _padding(3, config))
    x = tf.nn.relu(norm("conv2/norm", x, extent, config))
    x = norm("conv3/norm", conv("conv3", x, 4 * channels, 1, bias=False), extent, config)
    return tf.nn.relu(x + shortcut)


def _fpn(stages, extents, config):
    def layer(name, x, size, stride):
        if config.norm == "gn":
            x = conv(name, x, config.fpn_channels, size, bias=False)
            return norm(f"{name}/norm", x, extents[stride], config)
        # The published frozen-BatchNorm model has plain convolutions here. No rectifier follows: half He's variance.
        return conv(name, x, config.fpn_channels, size, std=(size**2 * x.shape[-1]) ** -0.5) * extents[stride].mask

    top = None
    levels = []
    for i in reversed(range(4)):
        stride = 4 * 2**i
        lateral = layer(f"lateral{i}", stages[i], 1, stride)
        if top is not None:
            doubled = tfv1.image.resize_nearest_neighbor(top, 2 * tf.shape(top)[1:3])
            lateral += doubled * extents[stride].mask
        top = lateral
        levels.insert(0, layer(f"output{i}", top, 3, stride))
    if 64 in config.strides:
        levels.append(levels[-1][:, ::2, ::2])
    return tuple(levels)
