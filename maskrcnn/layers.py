"""Layers with variables of their own, channel-last.

Every variable's initial value depends on the run's seed and on the variable's name alone, never on what else is
in the graph: two runs of one seed start from the same weights whatever flags are on.
"""

import zlib

import tensorflow as tf

tfv1 = tf.compat.v1


def variable(name, shape, initializer):
    """The variable `name` of the current scope, made on first use, shared afterwards."""
    with tfv1.variable_scope(tfv1.get_variable_scope(), reuse=tfv1.AUTO_REUSE):
        return tfv1.get_variable(name, shape, tf.float32, initializer)


def _seed(name):
    """An operation seed for the variable `name` of the current scope."""
    return zlib.crc32(f"{tfv1.get_variable_scope().name}/{name}".encode()) & 0x7FFFFFFF


def kernel(name, shape, std=None):
    """A weight tensor: He-normal over its fan-in (He et al. 2015), or normal with the given deviation."""
    if std is None:
        init = tfv1.initializers.variance_scaling(2.0, "fan_in", "truncated_normal", seed=_seed(name))
    else:
        init = tfv1.initializers.random_normal(stddev=std, seed=_seed(name))
    return variable(name, shape, init)


def conv(name, x, channels, size, stride=1, bias=True, std=None):
    """Convolution of x [B,h,w,C] -> [B,h/stride,w/stride,channels], zero-padded to keep the size."""
    with tfv1.variable_scope(name, reuse=tfv1.AUTO_REUSE):
        x = tf.nn.conv2d(x, kernel("W", [size, size, x.shape[-1], channels], std), stride, "SAME")
        return tf.nn.bias_add(x, variable("b", [channels], tfv1.initializers.zeros())) if bias else x


def deconv(name, x, channels):
    """Transposed 2x2 convolution: x [B,h,w,C] -> [B,2h,2w,channels]."""
    with tfv1.variable_scope(name, reuse=tfv1.AUTO_REUSE):
        # Each output cell sees one input cell, so the fan-in is C: a 1x1 convolution to 4 channels a cell, unfolded.
        x = tf.nn.conv2d(x, kernel("W", [1, 1, x.shape[-1], 4 * channels]), 1, "SAME")
        x = tf.nn.depth_to_space(x, 2)
        return tf.nn.bias_add(x, variable("b", [channels], tfv1.initializers.zeros()))


def dense(name, x, channels, std=None):
    """Fully connected layer: x [N,C] -> [N,channels]."""
    with tfv1.variable_scope(name, reuse=tfv1.AUTO_REUSE):
        w = kernel("W", [x.shape[-1], channels], std)
        return tf.nn.bias_add(tf.matmul(x, w), variable("b", [channels], tfv1.initializers.zeros()))


def norm(name, x, valid, config):
    """Normalises x [B,h,w,C] and zeroes it outside `valid` [B,h,w,1] (1 inside the true extent, else 0)."""
    channels = x.shape[-1]
    with tfv1.variable_scope(name, reuse=tfv1.AUTO_REUSE):
        gamma = variable("gamma", [channels], tfv1.initializers.ones())
        beta = variable("beta", [channels], tfv1.initializers.zeros())
        if config.norm == "frozen_bn":
            mean = variable("mean/EMA", [channels], tfv1.initializers.zeros())
            var = variable("variance/EMA", [channels], tfv1.initializers.ones())
            scale = tf.stop_gradient(gamma * tf.math.rsqrt(var + 1e-5))
            return (x * scale + tf.stop_gradient(beta - mean * scale)) * valid
        return _group_norm(x, valid, gamma, beta, config.gn_groups)


def _group_norm(x, valid, gamma, beta, groups):
    """GroupNorm (Wu and He 2018) whose statistics come from the true extent alone, so that padding changes nothing."""
    channels = x.shape[-1]
    x = x * valid
    cells = tf.reduce_sum(valid, axis=[1, 2, 3])[:, None, None] * (channels // groups)

    def group_mean(per_channel):
        grouped = tf.reshape(per_channel, [-1, groups, channels // groups])
        mean = tf.reduce_sum(grouped, axis=2, keepdims=True) / cells
        return tf.reshape(tf.tile(mean, [1, 1, channels // groups]), [-1, 1, 1, channels])

    mean = group_mean(tf.reduce_sum(x, axis=[1, 2]))
    var = group_mean(tf.reduce_sum(x * x, axis=[1, 2])) - mean * mean
    scale = tf.math.rsqrt(tf.maximum(var, 0) + 1e-5) * gamma
    return (x * scale + (beta - mean * scale)) * valid
