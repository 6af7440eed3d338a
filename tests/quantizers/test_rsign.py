from itertools import cycle

import numpy as np
import pytest
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn.quantizers import RSign
from numpy.testing import assert_allclose, assert_array_equal

SLOPES = {
    "approx_sign": lambda z: np.maximum(0, 2 - 2 * np.abs(z)),
    "ste_sign": lambda z: (np.abs(z) <= 1).astype(float),
    "sigmoid_sign": lambda z: 1.5 / np.cosh(1.5 * z) ** 2,
    "sign_swish": lambda z: 5 * (2 - 5 * z * np.tanh(2.5 * z)) / (1 + np.cosh(5 * z)),
    # A root of power 2, straight up to 0.1, nothing from 1.5 on.
    "reste": lambda z: np.select(
        [abs(z) <= 0.1, abs(z) <= 1.5], [10**0.5, 0.5 / np.sqrt(abs(z) + 1e-300)]
    ),
}


# Each estimator in one of the forms, which change the pre-activation alone.
FORMS = [(1.0, 0.0, True), (0.8, 0.25, False), (0.8, 0.25, True), (1.0, 0.0, False)]


@pytest.mark.parametrize("estimator, form", [*zip(SLOPES, cycle(FORMS), strict=False)])
def test_value_and_gradients(estimator, form):
    scale, offset, shift = form
    rng = np.random.default_rng(12)
    x, upstream = rng.normal(size=(2, 4, 5, 6, 3))
    power = {"power": 2.0} if estimator == "reste" else {}
    layer = RSign(
        scale, estimator=estimator, shift=shift, offset=offset, **power, dtype="float64"
    )
    layer.build(x.shape)
    added = np.full(3, offset)
    if shift:
        assert_array_equal(layer.shift, added)  # where it starts
        added = rng.normal(size=3)
        layer.shift.assign(added)
    z = scale * x + added
    if shift or offset:
        assert_allclose(layer.whole_shift(), added)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    slope = upstream * SLOPES[estimator](z)
    assert_array_equal(value, np.where(z >= 0, 1, -1))
    assert_allclose(d_x, scale * slope, atol=1e-12)
    assert list(d_weights) == ["shift"] * shift
    if shift:
        assert_allclose(d_weights["shift"], slope.sum((0, 1, 2)), atol=1e-11)
    names = [w.name for w in layer.non_trainable_weights]
    assert names == (["power:0"] if power else [])
    assert (layer.power is not None) == bool(power)


def test_sign_of_zero_is_positive():
    assert_array_equal(RSign()(tf.constant([[0.0, -0.0, -1e-30]])), [[1, 1, -1]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_threshold_is_not_rounded(dtype):
    shift = np.linspace(-1, -0.1, 64, dtype=np.float32)
    x = tf.cast(-shift[None], dtype)  # beside the threshold, on either side
    layer = RSign()
    layer(x)
    layer.shift.assign(shift)
    expected = np.where(np.asarray(x, np.float64) + shift >= 0, 1, -1)
    assert {*expected.flat} == {-1, 1}
    assert_array_equal(np.asarray(layer(x), np.float64), expected)
