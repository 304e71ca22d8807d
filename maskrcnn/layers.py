"""Layers with variables of their own, channel-last.

Every variable's initial value depends on the run's seed and on the variable's name alone, never on what else is
in the graph: two runs of one seed start from the same weights whatever flags are on.
"""

import zlib

import tensorflow as tf

tfv1 = tf.compat.v1


def variable(name, shape, initializer):
    """The variable `name` of the current scope, made on first use, shared afterwards.

    init_scope: a piece may be traced as a function of its own, and its variables belong to the graph around that.
    """
    with tf.init_scope(), tfv1.variable_scope(tfv1.get_variable_scope(), reuse=tfv1.AUTO_REUSE):
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


def conv(name, x, channels, size, stride=1, bias=True, std=None, padding="SAME"):
    """Convolution of x [B,h,w,C] -> [B,h/stride,w/stride,channels], zero-padded to keep the size."""
    with tfv1.variable_scope(name, reuse=tfv1.AUTO_REUSE):
        x = tf.nn.conv2d(x, kernel("W", [size, size, x.shape[-1], channels], std), stride, padding)
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


class Extent:
    """Where the maps [B,h,w,...] of one stride hold true image: `mask` [B,h,w,1] is 1 there and 0 in the padding.

    `rows` [B,1,N] and `column` [B,N,1] are the same over the N = h w cells, and `cells` [B,1,1] is their number: made
    once for all layers of a stride.
    """

    def __init__(self, mask):
        batch = mask.shape[0]
        self.mask = mask
        self.rows, self.column = tf.reshape(mask, [batch, 1, -1]), tf.reshape(mask, [batch, -1, 1])
        self.cells = tf.reduce_sum(self.rows, axis=2, keepdims=True)


def norm(name, x, extent, config):
    """Normalises x [B,h,w,C] and zeroes it outside its Extent."""
    channels = x.shape[-1]
    with tfv1.variable_scope(name, reuse=tfv1.AUTO_REUSE):
        gamma = variable("gamma", [channels], tfv1.initializers.ones())
        beta = variable("beta", [channels], tfv1.initializers.zeros())
        if config.norm == "frozen_bn":
            mean = variable("mean/EMA", [channels], tfv1.initializers.zeros())
            var = variable("variance/EMA", [channels], tfv1.initializers.ones())
            scale = tf.stop_gradient(gamma * tf.math.rsqrt(var + 1e-5))
            return (x * scale + tf.stop_gradient(beta - mean * scale)) * extent.mask
        return _group_norm(x, extent, gamma, beta, config.gn_groups)


def _group_norm(x, extent, gamma, beta, groups):
    """GroupNorm (Wu and He 2018) whose statistics come from the true extent alone, so that padding changes nothing.

    x [B,h,w,C] with a known B, gamma and beta [C]. The gradient is written out: derived operation by operation it
    takes several times as many, most of them passes over the map, and a model has dozens of such layers.
    """
    batch, channels = x.shape[0], x.shape[-1]
    by_group, by_channel = [-1, groups, channels // groups], [batch, 1, channels]

    def sums(values):
        """values [B,N,C] -> their sums over the true extent [B,groups,C/groups]"""
        return tf.reshape(tf.matmul(extent.rows, values), by_group)

    def mean(sums):
        """[B,groups,C/groups] -> [B,groups,1]"""
        return tf.reduce_sum(sums, axis=2, keepdims=True) / (extent.cells * (channels // groups))

    @tf.custom_gradient
    def normalise(x, gamma, beta):
        shape = tf.shape(x)
        x, gamma, beta = tf.reshape(x, [batch, -1, channels]), tf.reshape(gamma, by_group), tf.reshape(beta, by_group)
        centre = mean(sums(x))
        variance = mean(sums(x * x)) - centre * centre
        inverse = tf.math.rsqrt(tf.maximum(variance, 0) + 1e-5)
        scale = inverse * gamma
        y = (x * tf.reshape(scale, by_channel) + tf.reshape(beta - centre * scale, by_channel)) * extent.column

        def gradient(dy):
            # With z = (x - centre) inverse and dz = dy gamma: dx = inverse (dz - mean of dz - z mean of (dz z)).
            dy = tf.reshape(dy, [batch, -1, channels])
            dbeta = sums(dy)
            dgamma = (sums(dy * x) - centre * dbeta) * inverse
            slope = inverse * inverse * mean(dgamma * gamma)
            offset = centre * slope - inverse * mean(dbeta * gamma)
            ones = tf.ones_like(gamma)
            dx = dy * tf.reshape(scale, by_channel) - x * tf.reshape(slope * ones, by_channel)
            dx = (dx + tf.reshape(offset * ones, by_channel)) * extent.column
            dgamma, dbeta = (tf.reshape(tf.reduce_sum(d, axis=0), [channels]) for d in (dgamma, dbeta))
            return tf.reshape(dx, shape), dgamma, dbeta

        return tf.reshape(y, shape), gradient

    return normalise(x, gamma, beta)
