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


@pytest.mark.parametrize("estimator", SLOPES)
@pytest.mark.parametrize("scale", [1.0, 0.8])
@pytest.mark.parametrize("shape", [(4, 5, 6, 3), (7, 3), (2, 3, 2, 2, 3)])
def test_value_and_gradients(shape, scale, estimator):
    rng = np.random.default_rng(12)
    x, upstream = rng.normal(size=shape), rng.normal(size=shape)
    shift = rng.normal(size=shape[-1])
    power = {"power": 2.0} if estimator == "reste" else {}
    layer = RSign(scale=scale, estimator=estimator, **power, dtype="float64")
    layer.build(shape)
    layer.shift.assign(shift)
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    z = scale * x + shift
    slope = upstream * SLOPES[estimator](z)
    assert_array_equal(value, np.where(z >= 0, 1, -1))
    assert_allclose(d_x, scale * slope, atol=1e-12)
    assert_allclose(
        d_weights["shift"], slope.sum(tuple(range(len(shape) - 1))), atol=1e-11
    )


@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_without_a_shift(scale):
    rng = np.random.default_rng(14)
    x, upstream = rng.normal(size=(2, 4, 5, 3, 3))
    layer = RSign(scale=scale, shift=False, dtype="float64")
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    assert d_weights == {} and layer.shift is None
    assert_array_equal(value, np.where(x >= 0, 1, -1))
    slope = np.maximum(0, 2 - 2 * np.abs(scale * x))
    assert_allclose(d_x, scale * upstream * slope, atol=1e-12)
    assert RSign.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("shift", [True, False])
def test_a_fixed_offset(shift):
    rng = np.random.default_rng(15)
    x, upstream = rng.normal(size=(2, 4, 5, 3, 3))
    layer = RSign(scale=0.8, shift=shift, offset=0.25, dtype="float64")
    value, d_x, d_weights = value_and_gradients(layer, x, upstream)
    assert len(d_weights) == shift
    z = 0.8 * x + 0.25
    assert_array_equal(value, np.where(z >= 0, 1, -1))
    assert_allclose(d_x, 0.8 * upstream * np.maximum(0, 2 - 2 * np.abs(z)), atol=1e-12)
    assert_allclose(layer.whole_shift(), [0.25] * 3)
    assert layer.get_config()["offset"] == 0.25


def test_without_an_offset_or_a_shift_nothing_is_added():
    layer = RSign(shift=False)
    layer.build((None, 3))
    assert layer.whole_shift() is None
    old = {k: v for k, v in layer.get_config().items() if k != "offset"}
    assert RSign.from_config(old).offset == 0  # of a file from before it existed


def test_only_reste_has_a_power():
    for estimator in SLOPES:
        layer = RSign(estimator=estimator)
        layer.build((None, 3))
        names = [w.name for w in layer.non_trainable_weights]
        assert names == (["power:0"] if estimator == "reste" else [])
        assert (layer.power is not None) == (estimator == "reste")
        assert layer.get_config()["power"] == 1.0


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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    rng = np.random.default_rng(13)
    x = tf.cast(rng.normal(size=(64, 8, 8, 4)), dtype)
    upstream = tf.cast(rng.normal(size=x.shape), dtype)
    value, d_x, d_weights = value_and_gradients(RSign(), x, upstream)
    slope = np.maximum(0, 2 - 2 * np.abs(np.asarray(x, np.float64)))
    expected = np.asarray(upstream, np.float64) * slope
    assert_array_equal(value, np.where(np.asarray(x, np.float64) >= 0, 1, -1))
    assert_allclose(d_x, expected, atol=0.03)
    # Summed in float32: 4,096 terms, each rounded by up to 0.4 % of a value near 1.
    assert_allclose(d_weights["shift"], expected.sum((0, 1, 2)), atol=1.0)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"scale": 0}, ValueError, r"scale=0 is outside \(0, inf\)"),
        ({"scale": "one"}, TypeError, "scale='one' is not a number"),
        ({"shift": 1}, TypeError, "shift=1 is neither True nor False"),
        ({"estimator": "relu"}, ValueError, "must be one of approx.*; got 'relu'"),
    ],
)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        RSign(**arguments)


def test_rejects_a_second_owner():
    shared = RSign()
    shared(tf.ones((1, 4)))
    with pytest.raises(ValueError, match="inputs of 4 and of 8 channels"):
        shared(tf.ones((1, 8)))


def test_rejects_unknown_channels():
    with pytest.raises(ValueError, match=r"RSign got an input of shape \(3, None\)"):
        RSign().build((3, None))
