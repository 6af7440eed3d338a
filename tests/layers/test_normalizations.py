"""Normalizations of one example: published numbers, groups, and where they overflow.

The contract compares their gradients with oracles in every rank and precision.
"""

import larq as lq
import numpy as np
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn.layers import (
    ActivationStandardization,
    EvoNormS0,
    FilterResponseNormalization,
    ProxyNormalization,
)
from numpy.testing import assert_allclose, assert_array_equal

X = np.reshape([1.0, 2.0, 3.0, 4.0], (1, 2, 2, 1))


def in_training(layer, x, upstream):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    return y.numpy(), tape.gradient(y, x, tf.cast(upstream, y.dtype)).numpy()


def test_a_learned_epsilon_is_positive():
    layer = FilterResponseNormalization(0.05, learned_epsilon=True, dtype="float64")
    layer.build(X.shape)
    layer.learned_epsilon.assign([-0.2])
    assert_allclose(layer(X), X / np.sqrt(7.5 + 0.25), rtol=1e-9)


def test_published_numbers_of_evonorm():
    expected = [0.6538760554, 1.5756114102, 2.5560143774, 3.5133452896]
    for x in (X, X.reshape(1, 4)):  # in space, and in channels
        value = EvoNormS0(groups=1, dtype="float64")(x)
        assert_allclose(np.ravel(value), expected, rtol=1e-9)


def test_activation_standardization_changes_no_sign_and_nothing_at_inference():
    x = np.random.default_rng(41).normal(size=(4, 2, 2, 8)).astype(np.float32)
    x[0, 0, 0] = 0
    layer = ActivationStandardization()
    assert_array_equal(lq.math.sign(layer(x, training=True)), lq.math.sign(x))
    assert_array_equal(layer(x, training=False), x)
    assert_array_equal(layer(x), x)


def test_numbers_beyond_half_precision():
    """Squares of them are; the means of the squares are not."""
    half = np.float16([[-1e3, 1e3] * 512])
    value, d_x = in_training(
        ActivationStandardization(dtype="mixed_float16"), half, np.ones_like(half)
    )
    # 1,024 elements: the unbiased standard deviation is 1000 sqrt(1024 / 1023).
    assert_allclose(np.abs(value), np.sqrt(1023 / 1024), rtol=1e-3)
    assert np.isfinite(d_x).all()

    same = np.full((1, 4, 4, 2), 1e3, np.float16)
    layer = FilterResponseNormalization(dtype="mixed_float16")
    assert_allclose(layer(same), 1, rtol=1e-3)

    x = np.float16(1e4 * np.random.default_rng(38).choice([-1.0, 3.0], (2, 8, 8, 4)))
    actual = value_and_gradients(EvoNormS0(groups=2), x, np.ones(x.shape))
    grouped = x.astype(float).reshape(2, 64, 2, 2)
    # So far out x·s(x) is a ReLU, and epsilon nothing.
    expected = np.maximum(grouped, 0) / grouped.std((1, 3), keepdims=True)
    assert_allclose(actual[0].reshape(grouped.shape), expected, rtol=2e-3)
    assert all(np.isfinite(slope).all() for slope in (actual[1], *actual[2].values()))

    x = np.float16([-3e4, 3e4] * 16).reshape(1, 4, 4, 2)
    narrow = ProxyNormalization(dtype="mixed_float16")(x)
    assert_allclose(narrow, ProxyNormalization()(x.astype("f4")), rtol=1e-3)


def test_constant_inputs_are_finite():
    x = tf.fill((2, 4, 4, 4), 3.0)
    value, d_x, _ = value_and_gradients(EvoNormS0(groups=2), x, np.ones(x.shape))
    assert_allclose(value, 3 / (1 + np.exp(-3)) / np.sqrt(1e-5), rtol=1e-5)
    assert np.isfinite(d_x).all()


def test_large_maps_are_compiled_to_the_same_function():
    """Inside a graph, where such a map is computed in one loop."""
    rng = np.random.default_rng(35)
    x = rng.normal(3, 1, (8, 24, 24, 16)).astype(np.float32)
    upstream = rng.normal(size=x.shape)
    layer = EvoNormS0(groups=4)
    layer.build(x.shape)

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y * tf.constant(upstream, tf.float32))
        return y, *tape.gradient(loss, [x, *layer.trainable_weights])

    wide = EvoNormS0(groups=4, dtype="float64")
    exact = value_and_gradients(wide, np.float64(x), upstream)
    for actual, expected in zip(
        run(tf.constant(x)), (*exact[:2], *exact[2].values()), strict=True
    ):
        # Sums of float32 over 4,608 positions.
        assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
