"""Proxy normalization: its moments against integrals, and the layer around them."""

import numpy as np
import pytest
import tensorflow as tf
from gradients import assert_is_gradient, finite_differences, value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.layers import ProxyNormalization
from larq_nobn.layers._proxy_moments import exact_moments
from numpy.testing import assert_allclose, assert_array_equal

WEIGHTS = ("gamma", "beta", "proxy_gamma", "proxy_beta")


def numbers(moments):
    """Moments of one variable, as two numbers."""
    return tuple(float(np.squeeze(moment)) for moment in moments)


def one(number):
    return tf.constant([number], tf.float64)


def exact(slope, mean=0.0, deviation=1.0):
    return numbers(exact_moments(slope, one(mean), one(deviation)))


@pytest.mark.parametrize(
    "slope, mean, deviation",
    [(0.0, -1.3, 0.7), (0.2, 2.1, -1.9), (0.2, 0.0, 1.0), (1.0, -1.3, 0.7)],
)
def test_exact_moments_are_integrals(slope, mean, deviation):
    t, step = np.linspace(-12, 12, 400_001, retstep=True)
    density = np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    y = mean + deviation * t
    y = np.where(y > 0, y, slope * y)
    center = np.sum(y * density) * step
    variance = np.sum((y - center) ** 2 * density) * step
    actual = exact(slope, mean, deviation)
    assert_allclose(actual, (center, variance), rtol=1e-8, atol=1e-9)
    place = tf.Variable([mean, deviation], dtype=tf.float64)
    for index in (0, 1):
        with tf.GradientTape() as tape:
            moment = exact_moments(slope, place[0], place[1])[index]
        expected = finite_differences(
            lambda at, index=index: exact(slope, *at)[index], place.numpy()
        )
        assert_allclose(tape.gradient(moment, place), expected, atol=1e-8)


def test_exact_moments_survive_a_vanishing_or_relatively_small_spread():
    place = tf.constant([100.0, -100.0, 2.0, -2.0])
    spread = tf.Variable([0.01, 0.01, 0.0, 0.0])
    with tf.GradientTape() as tape:
        center, variance = exact_moments(0.0, place, spread)
        total = tf.reduce_sum(center + variance)
    assert_allclose(center, [100, 0, 2, 0], rtol=1e-6, atol=1e-6)
    assert_allclose(variance, [1e-4, 0, 0, 0], rtol=1e-5, atol=1e-11)
    assert np.isfinite(tape.gradient(total, spread)).all()


@pytest.mark.parametrize(
    "num_samples, center, variance",
    [(200, 0.3984511734, 0.3380347742), (None, 0.3989422804, 0.3408450569)],
)
def test_published_value(num_samples, center, variance):
    x = tf.reshape(tf.constant([1.0, 2.0, 3.0, 4.0]), (1, 2, 2, 1))
    layer_norm = np.array([-1.3416354, -0.4472118, 0.4472118, 1.3416354])
    expected = (np.maximum(layer_norm, 0) - center) / np.sqrt(variance + 0.03)
    actual = ProxyNormalization(num_samples=num_samples)(x)
    assert_allclose(np.ravel(actual), expected, rtol=1e-5)


# The contract has one group, whose proxy is sampled.
def test_gradients_are_finite_differences():
    layer = ProxyNormalization(groups=2, num_samples=None, dtype="float64")
    rng, shape = np.random.default_rng(50), (2, 3, 2, 6)
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    layer.build(shape)
    for name in WEIGHTS:
        weight = getattr(layer, name)
        weight.assign(weight + rng.normal(size=6) / 3)
    _, d_x, d_weights = value_and_gradients(layer, x, upstream)
    assert d_weights.keys() == set(WEIGHTS)
    assert_is_gradient(d_x, lambda at: np.vdot(layer(at), upstream), x)
    for name, gradient in d_weights.items():
        weight = getattr(layer, name)
        start = weight.numpy()

        def loss(values, weight=weight):
            weight.assign(values)
            return np.vdot(layer(x), upstream)

        assert_is_gradient(gradient, loss, start)
        weight.assign(start)


def test_without_an_activation_it_is_group_norm():
    x = tf.random.stateless_normal((2, 5, 5, 8), (5, 1), mean=2.0)
    group_norm = keras.layers.GroupNormalization(2, epsilon=1e-5)(x)
    actual = ProxyNormalization("linear", 2, num_samples=None)(x)
    assert_allclose(actual, group_norm / np.sqrt(1.03), rtol=1e-5, atol=1e-6)


def test_decay_draws_the_proxy_alone():
    image = keras.Input((4, 4, 3))
    layer = ProxyNormalization(proxy_regularizer=keras.regularizers.L2(0.1))
    model = keras.Model(image, layer(image))
    layer.gamma.assign([2, 3, 4])
    layer.beta.assign([5, 6, 7])
    layer.proxy_gamma.assign([1, 2, 0])
    layer.proxy_beta.assign([0, 0, 3])
    assert_allclose(sorted(model.losses), [0.5, 0.9], rtol=1e-6)
    again = keras.Model.from_config(model.get_config())
    assert_array_equal(again.losses, [0, 0])
    assert ProxyNormalization().proxy_regularizer is None
