"""Learning rate, clipping and weight decay, against the formulas in numpy."""

import dataclasses

import numpy as np
import pytest

from maskrcnn.config import Config, for_ranks, preset

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorpack")
from maskrcnn import optimizer  # noqa: E402

CONFIG = dataclasses.replace(Config(), steps=100, warmup=10, lr=0.5)


def rates(config, steps):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run([optimizer.learning_rate(config, tf.constant(s)) for s in steps])


def test_learning_rate_rises_over_the_warmup_and_falls_to_zero():
    at = rates(CONFIG, [0, 4, 9, 10, 55, 100])
    np.testing.assert_allclose(at, [0.05, 0.25, 0.5, 0.5, 0.25, 0.0], atol=1e-6)


def test_a_warmup_that_is_off_or_longer_than_the_run():
    assert rates(dataclasses.replace(CONFIG, warmup=0), [0])[0] == pytest.approx(0.5)
    assert rates(dataclasses.replace(CONFIG, warmup=200), [99])[0] == pytest.approx(0.25)


def test_the_published_schedule_falls_by_ten_twice():
    published = for_ranks(preset("coco"), 8)
    at = rates(published, [0, 499, 999, 1000, 59_999, 60_000, 79_999, 80_000, 89_999])
    np.testing.assert_allclose(at, [2e-5, 0.01, 0.02, 0.02, 0.02, 2e-3, 2e-3, 2e-4, 2e-4], rtol=1e-5)


def test_the_loss_scale_leaves_the_update_as_it_is_and_skips_an_overflow():
    for optimizer_name in ("momentum", "adam"):
        plain = dataclasses.replace(CONFIG, optimizer=optimizer_name)
        try:
            mixed = dataclasses.replace(plain, mixed_precision=True)
            for gradient, expected in ((3.0, one_step(plain, 3.0)), (np.inf, [2.0, 2.0])):
                assert one_step(mixed, gradient) == pytest.approx(expected, rel=1e-5)
        finally:
            tf.compat.v1.mixed_precision.disable_mixed_precision_graph_rewrite()


def one_step(config, gradient):
    """Kernel and bias, both 2.0, after a step of rate 0.1 with that gradient for each."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(f"layer/{name}", [1], initializer=tf.constant_initializer(2.0), use_resource=True)
            for name in ("W", "b")
        ]
        step = optimizer.build(config, tf.constant(0.1)).apply_gradients(
            [(tf.constant([gradient]), v) for v in variables]
        )
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(step)
        return [float(v[0]) for v in session.run(variables)]


def test_momentum_adds_the_decay_of_kernels_to_their_gradient():
    config = dataclasses.replace(CONFIG, optimizer="momentum", weight_decay=0.5, clip_norm=0.0)
    assert one_step(config, 3.0) == pytest.approx([2 - 0.1 * (3 + 0.5 * 2), 2 - 0.1 * 3])


def test_adam_decays_kernels_apart_from_its_own_step():
    config = dataclasses.replace(CONFIG, weight_decay=0.5, clip_norm=0.0)
    after = 2 - 0.1  # Adam's first step is the rate, whatever the gradient
    assert one_step(config, 3.0) == pytest.approx([after - 0.1 * 0.5 * after, after], rel=1e-5)


def test_the_gradient_is_clipped_by_its_norm_over_all_variables():
    config = dataclasses.replace(CONFIG, optimizer="momentum", weight_decay=0.0, clip_norm=1.0)
    clipped = 3 / np.sqrt(2 * 3.0**2)
    assert one_step(config, 3.0) == pytest.approx([2 - 0.1 * clipped] * 2, rel=1e-5)
