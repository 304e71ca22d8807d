"""ResNet (He et al. 2016, stride in the 3x3 convolution) with a feature pyramid (Lin et al. 2017).

Not one of the pieces: the same computation whatever flags are on, always for the whole batch.
"""

import tensorflow as tf

from maskrcnn.layers import conv, norm

tfv1 = tf.compat.v1


def valid_cells(hw, padded, stride):
    """[B,h,w,1] float32: 1 in the cells of a map of stride `stride` that lie in the image's true extent.

    hw [B,2] true sizes, padded [2] the size of the batch.
    """
    extent = -(-hw // stride)
    rows = tf.sequence_mask(extent[:, 0], padded[0] // stride, tf.float32)
    columns = tf.sequence_mask(extent[:, 1], padded[1] // stride, tf.float32)
    return rows[:, :, None, None] * columns[:, None, :, None]


def pyramid(images, config):
    """Images -> a tuple of feature maps [B,H/s,W/s,fpn_channels], one for each of config.strides, zero outside
    the images' true extents."""
    padded = tf.shape(images.pixels)[1:3]
    valid = {s: valid_cells(images.hw, padded, s) for s in {2, *config.strides}}
    with tfv1.variable_scope("resnet", reuse=tfv1.AUTO_REUSE):
        stages = _resnet(images.pixels, valid, config)
    with tfv1.variable_scope("fpn", reuse=tfv1.AUTO_REUSE):
        return _fpn(stages, valid, config)


def _resnet(x, valid, config):
    x = tf.nn.relu(norm("conv0/norm", conv("conv0", x, config.width, 7, 2, bias=False), valid[2], config))
    x = tf.nn.max_pool2d(x, 3, 2, "SAME") * valid[4]
    stages = []
    for i, blocks in enumerate(config.blocks):
        for j in range(blocks):
            stride = 2 if i > 0 and j == 0 else 1
            with tfv1.variable_scope(f"group{i}/block{j}", reuse=tfv1.AUTO_REUSE):
                x = _bottleneck(x, config.width * 2**i, stride, valid[4 * 2**i], valid[2 * 2**i], config)
        stages.append(x)
    return stages


def _bottleneck(x, channels, stride, valid, valid_before, config):
    before = valid_before if stride == 2 else valid
    shortcut = x
    if stride == 2 or x.shape[-1] != 4 * channels:
        shortcut = norm("shortcut/norm", conv("shortcut", x, 4 * channels, 1, stride, bias=False), valid, config)
    x = tf.nn.relu(norm("conv1/norm", conv("conv1", x, channels, 1, bias=False), before, config))
    x = tf.nn.relu(norm("conv2/norm", conv("conv2", x, channels, 3, stride, bias=False), valid, config))
    x = norm("conv3/norm", conv("conv3", x, 4 * channels, 1, bias=False), valid, config)
    return tf.nn.relu(x + shortcut)


def _fpn(stages, valid, config):
    def layer(name, x, size, stride):
        bias = config.norm != "gn"  # the published frozen-BatchNorm model has plain convolutions here
        x = conv(name, x, config.fpn_channels, size, bias=bias)
        return x * valid[stride] if bias else norm(f"{name}/norm", x, valid[stride], config)

    top = None
    levels = []
    for i in reversed(range(4)):
        stride = 4 * 2**i
        lateral = layer(f"lateral{i}", stages[i], 1, stride)
        if top is not None:
            lateral += tf.repeat(tf.repeat(top, 2, axis=1), 2, axis=2) * valid[stride]
        top = lateral
        levels.insert(0, layer(f"output{i}", top, 3, stride))
    if 64 in config.strides:
        levels.append(levels[-1][:, ::2, ::2])
    return tuple(levels)
