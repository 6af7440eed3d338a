"""Predictions averaged over binary networks, against all networks there are."""

import itertools

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.diagnostics import sampled_predictions
from numpy.testing import assert_allclose, assert_array_equal

NATURAL = np.array([[0.5, -1.0], [0.0, 4.0]], np.float32)
IMAGES = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, 0.7]], np.float32)
LABELS = np.array([0, 1, 1])


def network(softmax=False):
    kernel = {"kernel_quantizer": "bernoulli_sign", "use_bias": False}
    layer = lq.layers.QuantDense(2, activation="softmax" if softmax else None, **kernel)
    model = keras.Sequential([keras.Input((2,)), layer], name="net")
    layer.kernel.latent_variable.assign(NATURAL)
    return model


def of_all_networks():
    """Mean and standard deviation over the 16 networks, by their probabilities."""
    mean, square = 0.0, 0.0
    for signs in itertools.product([-1, 1], repeat=4):
        kernel = np.reshape(signs, (2, 2))
        chance = np.prod((1 + kernel * np.tanh(NATURAL)) / 2)
        powers = np.exp(IMAGES @ kernel)
        actual = powers / powers.sum(1, keepdims=True)
        mean, square = mean + chance * actual, square + chance * actual**2
    return mean, np.sqrt(square - mean**2)


@pytest.mark.parametrize("softmax", [False, True])
def test_the_average_is_that_over_all_networks(softmax):
    actual = sampled_predictions(network(softmax), (IMAGES, LABELS), 500)
    mean, deviation = of_all_networks()
    # Five standard deviations of a mean of so many draws.
    assert (np.abs(actual.probabilities - mean) < 5 * deviation / np.sqrt(500)).all()
    assert_allclose(actual.spread, deviation, rtol=0.15)
    assert_allclose(actual.probabilities.sum(1), 1, rtol=1e-6)
    assert_array_equal(actual.labels, LABELS)
    assert actual.samples == 500


def test_the_seed_decides_and_batches_do_not():
    model = network()
    whole = sampled_predictions(model, IMAGES, 3, seed=7)
    again = sampled_predictions(model, IMAGES, 3, seed=7)
    assert_array_equal(again.probabilities, whole.probabilities)
    assert whole.labels is None
    parts = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2)
    actual = sampled_predictions(model, parts, 3, seed=7)
    assert_allclose(actual.probabilities, whole.probabilities, rtol=1e-6)
    assert_allclose(actual.spread, whole.spread, rtol=1e-5, atol=1e-7)
    assert_array_equal(actual.labels, LABELS)
    # Without batch norm, statistics change nothing.
    actual = sampled_predictions(model, IMAGES, 3, seed=7, statistics=IMAGES)
    assert_array_equal(actual.probabilities, whole.probabilities)
    other = sampled_predictions(model, IMAGES, 3, seed=8)
    assert (other.probabilities != whole.probabilities).any()


def test_each_network_takes_the_statistics_of_its_own():
    rng = np.random.default_rng(0)
    given = rng.normal(1, 2, (300, 2)).astype(np.float32)
    norm = keras.layers.BatchNormalization(epsilon=1e-3)
    model = keras.Sequential([*network().layers, norm], name="net")
    model.build((None, 2))
    model.layers[0].kernel.latent_variable.assign(NATURAL)
    norm.moving_mean.assign([3.0, -7.0])
    before = model.get_weights()
    # With one network, and NumPy's generator of the same seed.
    likely = (1 + np.tanh(NATURAL.astype(float))) / 2
    kernel = np.where(np.random.default_rng(5).random((2, 2)) < likely, 1, -1)
    for statistics in (given, (given, np.zeros(300)), None):
        actual = sampled_predictions(model, IMAGES, 1, 5, statistics=statistics)
        x, mean, variance = IMAGES @ kernel, np.array([3, -7]), np.ones(2)
        if statistics is not None:
            seen = given.astype(float) @ kernel
            mean, variance = seen.mean(0), seen.var(0)
        powers = np.exp((x - mean) / np.sqrt(variance + 1e-3))
        wanted = powers / powers.sum(1, keepdims=True)
        assert_allclose(actual.probabilities, wanted, rtol=1e-4)
        for one, other in zip(model.get_weights(), before, strict=True):
            assert_array_equal(one, other)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_the_model_is_as_before_also_after_an_error(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = network()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    before = model.predict(IMAGES, verbose=0)
    sampled_predictions(model, IMAGES, 2)
    assert_array_equal(model.get_weights()[0], NATURAL)
    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError), match="incompatible with the l"
    ):
        sampled_predictions(model, np.ones((2, 5), np.float32), 2)
    assert_array_equal(model.get_weights()[0], NATURAL)
    assert_array_equal(model.predict(IMAGES, verbose=0), before)


NETWORK = network()
PLAIN = keras.Input((2,)), keras.layers.Dense(2)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            {"model": keras.Sequential([*PLAIN], name="plain")},
            ValueError,
            "plain has no kernel of BernoulliSign to s",
        ),
        (
            {"model": keras.Model(NETWORK.input, [NETWORK.output] * 2)},
            ValueError,
            "The model does not return one vector of classes",
        ),
        ({"samples": 0}, ValueError, "samples=0 is below 1. 16 is a good start"),
    ],
)
def test_wrong_models_and_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        sampled_predictions(**{"model": network(), "data": IMAGES, **arguments})
