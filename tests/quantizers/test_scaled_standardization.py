import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences, value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.quantizers import ScaledStandardization
from numpy.testing import assert_allclose

SHAPES = [(3, 3, 4, 5), (5, 2, 6), (2, 2, 2, 3, 4), (7, 3)]


def oracle(kernel, gain, scale, epsilon):
    """The formula, filter by filter in float64."""
    kernel = np.asarray(kernel, np.float64)
    result = np.empty_like(kernel)
    for o in range(kernel.shape[-1]):
        w = kernel[..., o]
        spread = np.sqrt(w.size) * (w.std() + epsilon)
        result[..., o] = gain[o] * scale * (w - w.mean()) / spread
    return result


def test_published_number():
    kernel = tf.reshape(tf.constant([1.0, 2.0, 3.0, 4.0]), (4, 1))
    upstream = tf.constant([[1.0], [0.0], [0.0], [0.0]])
    value, d_kernel, _ = value_and_gradients(ScaledStandardization(), kernel, upstream)
    assert_allclose(
        value[:, 0],
        [-0.6708143933, -0.2236047978, 0.2236047978, 0.6708143933],
        rtol=1e-6,
    )
    assert_allclose(
        d_kernel[:, 0],
        [0.1341646786, -0.1788832382, -0.0447215595, 0.0894401191],
        rtol=2e-6,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_in_float64(shape):
    rng = np.random.default_rng(1)
    kernel, upstream = rng.normal(0.3, 1, shape), rng.normal(size=shape)
    gain = rng.normal(1, 0.3, shape[-1])
    layer = ScaledStandardization(scale=1.7, epsilon=1e-2, dtype="float64")
    layer.build(shape)
    layer.gain.assign(gain)
    value, d_kernel, d_weights = value_and_gradients(layer, kernel, upstream)

    def loss(w, g):
        return np.sum(upstream * oracle(w, g, 1.7, 1e-2))

    assert_allclose(value, oracle(kernel, gain, 1.7, 1e-2), rtol=1e-12)
    assert_allclose(
        d_kernel, finite_differences(lambda w: loss(w, gain), kernel), atol=1e-7
    )
    assert_allclose(
        d_weights["gain"],
        finite_differences(lambda g: loss(kernel, g), gain),
        atol=1e-7,
    )


@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_half_precision_rounds_only_at_the_ends(dtype, tolerance):
    rng = np.random.default_rng(2)
    kernel = tf.cast(rng.normal(100, 1, (3, 3, 8, 4)), dtype)
    upstream = tf.cast(rng.normal(size=(3, 3, 8, 4)), dtype)
    value, d_kernel, d_weights = value_and_gradients(
        ScaledStandardization(), kernel, upstream
    )
    exact, d_exact, d_weights_exact = value_and_gradients(
        ScaledStandardization(),
        tf.cast(kernel, tf.float32),
        tf.cast(upstream, tf.float32),
    )
    assert_allclose(value, exact, atol=tolerance * np.abs(exact).max())
    assert_allclose(d_kernel, d_exact, atol=tolerance * np.abs(d_exact).max())
    assert_allclose(d_weights["gain"], d_weights_exact["gain"], rtol=1e-5)


def test_invariants():
    rng = np.random.default_rng(3)
    kernel = rng.normal(2, 1, (3, 3, 4, 5)).astype(np.float32)
    layer = ScaledStandardization()
    value, d_kernel, _ = value_and_gradients(
        layer, kernel, rng.normal(size=kernel.shape)
    )
    assert_allclose(value.sum((0, 1, 2)), 0, atol=1e-5)
    assert_allclose((value**2).sum((0, 1, 2)), 1, rtol=1e-4)
    assert_allclose(d_kernel.sum((0, 1, 2)), 0, atol=1e-5)
    assert_allclose(layer(3 * kernel + 5), value, atol=1e-5)


def test_constant_filter_has_a_finite_gradient():
    kernel = tf.fill((4, 1), 0.5)
    upstream = np.array([[1.0], [2.0], [3.0], [6.0]])
    value, d_kernel, d_weights = value_and_gradients(
        ScaledStandardization(epsilon=0.1), kernel, upstream
    )
    assert_allclose(value, 0)
    assert_allclose(d_kernel, (upstream - 3) / (2 * 0.1), rtol=1e-5)
    assert_allclose(d_weights["gain"], 0)


def test_gain_is_optional():
    layer = ScaledStandardization(gain=False)
    layer.build((3, 3, 4, 5))
    assert layer.weights == []
    assert ScaledStandardization.from_config(layer.get_config()).gain is False


def test_without_gain_the_kernel_keeps_its_precision():
    kernel = np.random.default_rng(20).normal(size=(3, 3, 4, 5))
    value = ScaledStandardization(gain=False, dtype="float64")(kernel)
    assert_allclose(value, oracle(kernel, np.ones(5), 1, 1e-5), rtol=1e-12)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"epsilon": 0.0}, ValueError, r"epsilon=0.0 is outside \(0, inf\)"),
        ({"epsilon": "tiny"}, TypeError, r"epsilon='tiny' is not a number"),
        ({"scale": -1}, ValueError, r"scale=-1 is outside \(0, inf\)"),
        ({"scale": float("nan")}, ValueError, r"scale=nan is outside"),
        ({"gain": 2}, TypeError, r"gain=2 is neither True nor False"),
    ],
)
def test_rejects(arguments, error, message):
    with pytest.raises(error, match=message):
        ScaledStandardization(**arguments)


def test_rejects_filters_of_one_weight():
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1, 8\), whose filters"):
        ScaledStandardization()(tf.ones((1, 1, 1, 8)))


def test_rejects_a_second_owner():
    shared = ScaledStandardization()
    shared(tf.ones((3, 3, 4, 5)))
    with pytest.raises(ValueError, match=r"\(3, 3, 4, 5\) and \(1, 1, 4, 5\)"):
        shared(tf.ones((1, 1, 4, 5)))
    assert keras.backend.int_shape(shared.gain) == (5,)
