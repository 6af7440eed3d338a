import numpy as np
import pytest
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.layers import BatchKalmanNormalization
from numpy.testing import assert_allclose, assert_array_equal

SHAPE = (2, 3, 4, 5)


def in_float64(**arguments):
    """A layer in float64, and features that are far from standardized."""
    layer = BatchKalmanNormalization(dtype="float64", **arguments)
    rng = np.random.default_rng(30)
    x = tf.constant(rng.normal(2, 3, SHAPE))
    layer.build(SHAPE)
    layer.gamma.assign(rng.normal(size=5))
    layer.beta.assign(rng.normal(size=5))
    return layer, x


def moments(x):
    axes = tuple(range(np.ndim(x) - 1))
    return np.mean(x, axes), np.var(x, axes)


class FirstOutput(keras.layers.Wrapper):
    """Calls a layer for training and keeps y, as batch norm returns it."""

    def call(self, inputs):
        actual = self.layer(inputs, training=True)
        return actual[0] if isinstance(actual, tuple) else actual


def test_without_prior_it_is_batch_norm():
    layer, x = in_float64(prior=0.0)
    # The fused kernel of Keras corrects the moving variance and knows float32 only.
    norm = keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, fused=False, dtype="float64"
    )
    norm.build(SHAPE)
    norm.set_weights(layer.get_weights())
    upstream = np.random.default_rng(31).normal(size=SHAPE)
    actual = value_and_gradients(FirstOutput(layer), x, upstream)
    expected = value_and_gradients(FirstOutput(norm), x, upstream)
    assert_allclose(actual[0], expected[0], rtol=1e-12)
    assert_allclose(actual[1], expected[1], atol=1e-12)
    for name in expected[2]:
        assert_allclose(actual[2][name], expected[2][name], rtol=1e-10)
    # Keras rounds the momentum to float32.
    for one, other in zip(layer.get_weights(), norm.get_weights(), strict=True):
        assert_allclose(one, other, rtol=1e-7)
    assert_allclose(layer(x)[0], norm(x, training=False), rtol=1e-6)


@pytest.mark.parametrize("times, used", [(99.9, True), (100.1, False)])
def test_a_prior_too_wide_for_the_batch_is_left_out(times, used):
    layer, x = in_float64(prior=0.5)
    mean, variance = moments(x)
    # On average over the channels; single ones may be beyond the limit.
    factors = times * np.array([0.2, 1.8, 1, 1, 1])
    prior = [tf.constant(mean + 1), tf.constant(factors * variance)]
    with tf.GradientTape() as tape:
        tape.watch([x, prior])
        y, state = layer([x, *prior], training=True)
        loss = tf.reduce_sum(y * tf.sin(y)) + tf.add_n(
            [tf.reduce_sum(s) for s in state]
        )
    d_x, d_prior = tape.gradient(loss, [x, prior])
    fraction = 0.5 if used else 0.0
    assert_allclose(state[0], mean + fraction, rtol=1e-12)
    mixed = variance + fraction * (factors - 1) * variance + fraction * (1 - fraction)
    assert_allclose(state[1], mixed, rtol=1e-12)
    assert np.isfinite(d_x).all()
    assert np.any(d_prior[0]) == np.any(d_prior[1]) == used


@pytest.mark.parametrize("prior_variance", [0.0, np.inf])
def test_dead_channels_stay_finite(prior_variance):
    x = tf.ones((4, 3))
    prior = tf.zeros(3), tf.fill(3, np.float32(prior_variance))
    layer = BatchKalmanNormalization()
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, state = layer([x, prior], training=True)
        loss = tf.reduce_sum(y) + tf.reduce_sum(state[1])
    assert_array_equal(y, 0)
    assert_array_equal(state, [np.ones(3), np.zeros(3)])
    assert np.isfinite(tape.gradient(loss, x)).all()


def test_moving_averages_follow_the_posterior_and_serve_inference():
    layer, x = in_float64(prior=0.6, momentum=0.75)
    prior = np.zeros(5), np.ones(5)
    expected = prior
    for factor in (1, 2):
        _, posterior = layer([factor * x, prior], training=True)
        pairs = zip(expected, posterior, strict=True)
        expected = [0.75 * old + 0.25 * np.asarray(new) for old, new in pairs]
    assert_allclose(layer.moving_mean, expected[0], rtol=1e-12)
    assert_allclose(layer.moving_variance, expected[1], rtol=1e-12)
    # Inference sees neither the batch nor the prior.
    y, state = layer([x, (np.full(5, 7.0), np.full(5, 8.0))])
    hat = (x - expected[0]) / np.sqrt(expected[1] + 1e-5)
    assert_allclose(y, layer.gamma * hat + layer.beta, rtol=1e-9)
    assert_array_equal(state, [layer.moving_mean, layer.moving_variance])
    layer.trainable = False  # frozen, as Keras' batch norm
    assert_array_equal(layer([x, *state], training=True)[0], y)
    assert_allclose(layer.moving_mean, expected[0], rtol=1e-12)
