import numpy as np
import pytest
from gradients import value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.layers import ThresholdedLinearUnit
from numpy.testing import assert_allclose, assert_array_equal


@pytest.mark.parametrize("shape", [(3, 4, 5, 3), (6, 3)])
def test_value_and_gradients(shape):
    rng = np.random.default_rng(19)
    x, upstream, tau = (
        rng.normal(size=shape),
        rng.normal(size=shape),
        rng.normal(size=3),
    )
    layer = ThresholdedLinearUnit(dtype="float64")
    layer.build(shape)
    layer.tau.assign(tau)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    axes = tuple(range(len(shape) - 1))
    assert_array_equal(value, np.maximum(x, tau))
    assert_allclose(d_x, upstream * (x > tau))
    assert_allclose(d_weights["tau"], np.sum(upstream * (x <= tau), axes), rtol=1e-12)


def test_the_gradient_of_a_tie_goes_to_the_input():
    tie = np.zeros((2, 3), np.float32)  # the threshold starts at 0
    _, d_x, d_weights = value_and_gradients(ThresholdedLinearUnit(), tie, tie + 2)
    assert_array_equal(d_x, tie + 2)
    assert_array_equal(d_weights["tau"], np.zeros(3))


def test_tau_has_one_value_per_channel_from_its_initializer():
    layer = ThresholdedLinearUnit(keras.initializers.Constant(-1.0))
    layer.build((None, 7, 7, 4))
    assert_array_equal(layer.tau, np.full(4, -1.0))


@pytest.mark.parametrize("given", ["zeroes", 3])
def test_rejects_what_is_no_initializer(given):
    with pytest.raises(ValueError, match=f"tau_initializer={given!r} is not an init"):
        ThresholdedLinearUnit(tau_initializer=given)


def test_rejects_unknown_channels():
    with pytest.raises(ValueError, match=r"Unit got an input of shape \(3, None\)"):
        ThresholdedLinearUnit().build((3, None))
