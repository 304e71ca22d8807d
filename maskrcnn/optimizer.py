"""The optimizer: learning rate schedule, gradient clipping, weight decay, loss scaling."""

import math

import tensorflow as tf
from tensorpack.tfutils.gradproc import GlobalNormClip, GradientProcessor
from tensorpack.tfutils.optimizer import ProxyOptimizer, apply_grad_processors

tfv1 = tf.compat.v1


def learning_rate(config, step):
    """The rate of the step after `step` finished ones (scalar int32): linear up over `warmup` steps to `lr`, then down
    a half cosine that reaches zero after `steps` (Loshchilov and Hutter 2017), or a tenth from each of `decay_at` on.
    """
    decays = [round(part * config.steps) for part in config.decay_at]
    steps = 0.1 ** tf.cast(tf.math.count_nonzero(step >= tf.constant(decays)), tf.float32)
    step = tf.cast(step, tf.float32)
    rise = (step + 1) / max(config.warmup, 1)
    fall = (step - config.warmup) / max(config.steps - config.warmup, 1)
    cosine = 0.5 * (1 + tf.cos(math.pi * tf.clip_by_value(fall, 0.0, 1.0)))
    return config.lr * tf.where(step < config.warmup, rise, cosine if config.schedule == "cosine" else steps)


def build(config, rate):
    """The optimizer of `_build`; with config.mixed_precision also a rewrite of the graph to 16 bits where a GPU gains
    by it, and a loss scale as large as the gradients allow: a step in which they overflow is left out."""
    optimizer = _build(config, rate)
    if config.mixed_precision:
        return tfv1.mixed_precision.enable_mixed_precision_graph_rewrite(optimizer)
    return optimizer


def _build(config, rate):
    """A TF1 Optimizer that clips, decays and applies. `rate` is the scalar learning rate.

    Weight decay is never part of the loss, so that the reported loss is the model's alone. With momentum it is added
    to the gradient, as in the published Mask R-CNN schedules. Adam divides gradients by their size, which would undo
    that for weights of large gradients: there it is decoupled (Loshchilov and Hutter 2019), W -= rate * decay * W.
    Only kernels decay, the variables named W: biases and normalisation have no scale that a decay could keep small.
    """
    clip = [GlobalNormClip(config.clip_norm)] if config.clip_norm > 0 else []
    decay = config.weight_decay
    if config.optimizer == "adam":
        optimizer = apply_grad_processors(tfv1.train.AdamOptimizer(rate), clip)
        return _Shrinking(optimizer, rate * decay) if decay else optimizer
    optimizer = tfv1.train.MomentumOptimizer(rate, 0.9)
    return apply_grad_processors(optimizer, [*clip, KernelDecay(decay)] if decay else clip)


def _decays(variable):
    return variable.op.name.split("/")[-1] == "W"


class _Shrinking(ProxyOptimizer):
    """Takes the part `factor` from every kernel after the update of the optimizer it wraps."""

    def __init__(self, optimizer, factor):
        super().__init__(optimizer)
        self._factor = factor

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        grads_and_vars = list(grads_and_vars)
        update = super().apply_gradients(grads_and_vars, global_step)
        with tf.control_dependencies([update]):
            kernels = [v for _, v in grads_and_vars if _decays(v)]
            return tf.group(*(v.assign_sub(self._factor * v, read_value=False) for v in kernels), name=name)


class KernelDecay(GradientProcessor):
    """Adds `decay` times the kernel to its gradient."""

    def __init__(self, decay):
        super().__init__()
        self._decay = decay

    def _process(self, grads):
        return [(g + self._decay * v if _decays(v) else g, v) for g, v in grads]
