"""RPReLU, ThresholdedLinearUnit and SkipInit: starts, ties, and sums of gradients.

The contract compares their gradients with oracles in every rank and precision.
"""

import numpy as np
import pytest
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.layers import RPReLU, SkipInit, ThresholdedLinearUnit
from numpy.testing import assert_allclose, assert_array_equal


def test_starts():
    x = tf.constant([[-2.0, 2.0]])
    assert_array_equal(RPReLU()(x), [[-0.5, 2.0]])
    assert_array_equal(RPReLU(power_of_two=True)(x), [[-0.25, 2.0]])
    assert_array_equal(ThresholdedLinearUnit()(x), [[0.0, 2.0]])
    skip = SkipInit()
    assert_array_equal(skip(x), 0 * x)
    skip.gain.assign(-1.5)
    assert_array_equal(skip(x), -1.5 * x)
    layer = ThresholdedLinearUnit(keras.initializers.Constant(-1.0))
    layer.build((None, 7, 7, 4))
    assert_array_equal(layer.tau, np.full(4, -1.0))


def test_the_gradient_of_a_tie_goes_to_the_input():
    tie = np.zeros((2, 3), np.float32)  # the threshold starts at 0
    _, d_x, d_weights = value_and_gradients(ThresholdedLinearUnit(), tie, tie + 2)
    assert_array_equal(d_x, tie + 2)
    assert_array_equal(d_weights["tau"], np.zeros(3))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_gradients_of_a_large_map_are_not_lost(dtype):
    """Added up in their own precision, ones would end at 2,048 or at 256."""
    x = tf.ones((128, 16, 16, 4), dtype)
    _, _, d_weights = value_and_gradients(RPReLU(), x, np.ones(x.shape))
    assert_array_equal(d_weights["shift_in"], 4 * [2**15])
    assert_array_equal(d_weights["shift_out"], 4 * [2**15])
    skip = SkipInit(keras.initializers.Constant(1e-3))
    _, _, d_weights = value_and_gradients(skip, x, np.ones(x.shape))
    assert_array_equal(d_weights["gain"], 4 * 2**15)


def powers(logarithms, **kwargs):
    layer = RPReLU(power_of_two=True, **kwargs)
    layer.build((None, len(logarithms)))
    layer.log2_slope.assign(logarithms)
    return layer


def test_power_of_two_is_exact_and_rounds_halves_to_even():
    whole = np.arange(-20.0, 8.0)
    assert_array_equal(powers(whole).effective_slope(), 2.0**whole)
    assert_array_equal(powers(whole + 0.49).effective_slope(), 2.0**whole)
    halves = powers([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5])
    assert_array_equal(halves.effective_slope(), [1 / 16, 0.25, 0.25, 1, 1, 4])


def test_power_of_two_gradients():
    rng = np.random.default_rng(45)
    x, upstream = rng.normal(size=(2, 3, 4, 5, 3))
    slope = np.array([0.125, 0.5, 1.0])
    shift_in, shift_out = rng.normal(size=(2, 3))
    layer = powers([-2.6, -1.2, 0.4], dtype="float64")
    layer.shift_in.assign(shift_in)
    layer.shift_out.assign(shift_out)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    z = x + shift_in
    assert_allclose(value, np.where(z > 0, z, slope * z) + shift_out, rtol=1e-12)
    assert_allclose(d_x, np.where(z > 0, 1, slope) * upstream, rtol=1e-12)
    d_slope = np.sum(upstream * np.minimum(z, 0), (0, 1, 2))
    assert_allclose(d_weights["log2_slope"], np.log(2) * slope * d_slope, rtol=1e-12)
    assert_allclose(d_weights["shift_in"], d_x.sum((0, 1, 2)), rtol=1e-10)
    assert_allclose(d_weights["shift_out"], upstream.sum((0, 1, 2)), rtol=1e-10)
