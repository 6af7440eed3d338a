"""FakeQuantization: its values, its range, and what moves it."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal


def oracle(x, low, high):
    step = (high - low) / 255
    zero = np.round(-low / step)
    return step * (np.clip(np.round(x / step) + zero, 0, 255) - zero)


def quantization(low=0.0, high=0.0, **arguments):
    layer = nobn.layers.FakeQuantization(**arguments)
    layer.build((None, 4))
    layer.set_range(low, high)
    return layer


def range_of(layer):
    return [float(layer.minimum), float(layer.maximum)]


X = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)


@pytest.mark.parametrize("low, high", [(-1.0, 2.0), (0.0, 1.5), (-0.3, 0.0)])
def test_values(low, high):
    layer = quantization(low, high)
    y = layer(X)
    assert_allclose(y, oracle(X, low, high), rtol=1e-5, atol=1e-6)
    assert len(np.unique(y)) > 20
    assert_array_equal(layer(np.zeros((1, 4), np.float32)), 0)


def test_the_first_batch_gives_the_range_and_is_rounded():
    layer = nobn.layers.FakeQuantization()
    y = layer(X, training=True)
    assert layer.has_range
    assert_allclose(range_of(layer), [X.min(), X.max()], rtol=1e-6)
    assert_allclose(y, oracle(X, X.min(), X.max()), rtol=1e-5, atol=1e-5)


def test_a_range_widens_at_once_and_narrows_slowly():
    layer = quantization(-1.0, 1.0, momentum=0.75)
    layer(np.array([[-0.2, 3.0]], np.float32), training=True)
    # -0.75 * 1 - 0.25 * 0.2, and the new extreme.
    assert_allclose(range_of(layer), [-0.8, 3.0], rtol=1e-6)


def test_a_range_stays_at_inference_frozen_and_after_an_overflow():
    layer = quantization(-1.0, 1.0)
    layer(5 * X)
    assert range_of(layer) == [-1, 1]
    for value in (np.inf, np.nan):
        layer(np.array([[value, 3.0]], np.float32), training=True)
        assert range_of(layer) == [-1, 1]
    layer.trainable = False
    layer(5 * X, training=True)
    assert range_of(layer) == [-1, 1]


def test_half_precision_is_rounded_in_float32():
    layer = quantization(-100.0, 80.0, dtype="mixed_float16")
    # In float16 the range would have no room for 255 exact steps.
    x = np.linspace(-110, 90, 256).astype(np.float16)
    y = layer(x.reshape(-1, 4))
    assert y.dtype == tf.float16
    expected = oracle(x.astype(np.float32), -100, 80)
    assert_allclose(np.ravel(y), expected, rtol=1e-3, atol=1e-3)
