import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences
from larq_nobn.layers._proxy_moments import (
    exact_moments,
    normal_quantiles,
    sampled_moments,
)
from numpy.testing import assert_allclose


def moments(function, *numbers, of):
    """Moments of one variable, as two numbers."""
    found = function(of, *(tf.constant([n], tf.float64) for n in numbers))
    return tuple(float(np.squeeze(each)) for each in found)


def sampled(activation, mean=0.0, deviation=1.0):
    def of(activation, mean, deviation):
        return sampled_moments(activation, mean, deviation, 200)

    return moments(of, mean, deviation, of=activation)


def exact(slope, mean=0.0, deviation=1.0):
    return moments(exact_moments, mean, deviation, of=slope)


def test_quantiles():
    quantiles = np.array(normal_quantiles(200))
    assert_allclose(quantiles[[0, -1]], [-2.8070337683, 2.8070337683], rtol=1e-10)
    assert_allclose(quantiles.var(), 0.9935962236, rtol=1e-9)


@pytest.mark.parametrize(
    "activation, mean, expected",
    [
        (tf.nn.relu, 0.0, (0.3984511734, 0.3380347742)),
        (tf.nn.relu, 0.5, (0.6973027566, 0.5504340156)),
        (lambda y: tf.nn.leaky_relu(y, 0.25), 0.0, (0.2988383800, 0.4385436164)),
        (lambda y: tf.clip_by_value(y, -1, 1), 0.0, (0, 0.5160564140)),
        (lambda y: y, 0.5, (0.5, 0.9935962236)),
    ],
)
def test_published_moments_of_quantiles(activation, mean, expected):
    assert_allclose(sampled(activation, mean), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "slope, mean, expected",
    [
        (0.0, 0.0, (0.3989422804, 0.3408450569)),
        (0.0, 0.5, (0.6977965574, 0.5534407045)),
        (1.0, 0.5, (0.5, 1.0)),
    ],
)
def test_published_exact_moments(slope, mean, expected):
    assert_allclose(exact(slope, mean), expected, rtol=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("mean, deviation", [(0.0, 1.0), (-1.3, 0.7), (2.1, -1.9)])
def test_exact_moments_are_integrals(slope, mean, deviation):
    t, step = np.linspace(-12, 12, 400_001, retstep=True)
    density = np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    y = mean + deviation * t
    y = np.where(y > 0, y, slope * y)
    center = np.sum(y * density) * step
    variance = np.sum((y - center) ** 2 * density) * step
    found = exact(slope, mean, deviation)
    assert_allclose(found, (center, variance), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("mean, deviation", [(0.0, 1.0), (-0.8, 0.7), (2.1, -1.9)])
def test_gradients_of_exact_moments(mean, deviation):
    place = tf.Variable([mean, deviation], dtype=tf.float64)
    for index in (0, 1):
        with tf.GradientTape() as tape:
            found = exact_moments(0.2, place[0], place[1])[index]
        slope = finite_differences(
            lambda at, index=index: exact(0.2, *at)[index], place.numpy()
        )
        assert_allclose(tape.gradient(found, place), slope, atol=1e-8)


def test_exact_moments_survive_a_vanishing_or_relatively_small_spread():
    place = tf.constant([100.0, -100.0, 2.0, -2.0])
    spread = tf.Variable([0.01, 0.01, 0.0, 0.0])
    with tf.GradientTape() as tape:
        center, variance = exact_moments(0.0, place, spread)
        total = tf.reduce_sum(center + variance)
    assert_allclose(center, [100, 0, 2, 0], rtol=1e-6, atol=1e-6)
    assert_allclose(variance, [1e-4, 0, 0, 0], rtol=1e-5, atol=1e-11)
    assert np.isfinite(tape.gradient(total, spread)).all()
