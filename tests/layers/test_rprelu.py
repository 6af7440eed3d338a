import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences, value_and_gradients
from larq_nobn.layers import RPReLU
from numpy.testing import assert_allclose


def oracle(x, shift_in, slope, shift_out):
    z = x + shift_in
    return np.where(z > 0, z, slope * z) + shift_out


@pytest.mark.parametrize("shape", [(3, 4, 5, 3), (6, 3), (2, 4, 3)])
def test_value_and_gradients(shape):
    rng = np.random.default_rng(14)
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    weights = {
        "shift_in": rng.normal(size=3),
        "slope": rng.normal(size=3),
        "shift_out": rng.normal(size=3),
    }
    layer = RPReLU(dtype="float64")
    layer.build(shape)
    for name, array in weights.items():
        getattr(layer, name).assign(array)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)

    def loss(x, **changed):
        return np.sum(upstream * oracle(x, **{**weights, **changed}))

    assert_allclose(value, oracle(x, **weights), rtol=1e-12)
    assert_allclose(d_x, finite_differences(loss, x), atol=1e-7)
    for name in weights:
        expected = finite_differences(
            lambda w, name=name: loss(x, **{name: w}), weights[name]
        )
        assert_allclose(d_weights[name], expected, atol=1e-7)


def test_starts_as_a_leaky_relu_of_slope_a_quarter():
    assert_allclose(RPReLU()(tf.constant([[-2.0, 2.0]])), [[-0.5, 2.0]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    rng = np.random.default_rng(15)
    x = tf.cast(rng.normal(size=(64, 8, 8, 4)), dtype)
    upstream = tf.cast(rng.normal(size=x.shape), dtype)
    value, d_x, d_weights = value_and_gradients(RPReLU(), x, upstream)
    wide, g = np.asarray(x, np.float64), np.asarray(upstream, np.float64)
    assert_allclose(value, oracle(wide, 0, 0.25, 0), rtol=1e-2)
    assert_allclose(d_x, np.where(wide > 0, g, 0.25 * g), rtol=1e-2)
    assert_allclose(d_weights["shift_out"], g.sum((0, 1, 2)), rtol=1e-4, atol=1e-3)


def test_refuses_unknown_channels():
    with pytest.raises(ValueError, match=r"RPReLU got an input of shape \(3, None\)"):
        RPReLU().build((3, None))
