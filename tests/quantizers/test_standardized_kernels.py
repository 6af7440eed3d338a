"""ScaledStandardization and ScaledStdSign: published numbers, and where they round.

Their gradients are compared with oracles by the contract, and here where the median is
the threshold.
"""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn.quantizers import ReCU, ScaledStandardization, ScaledStdSign
from numpy.testing import assert_allclose, assert_array_equal
from rows.nobn import scaled_std_sign, std_signs


def drawn(seed, shape=(3, 3, 4, 5)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_constant_filter_has_a_finite_gradient():
    upstream = np.array([[1.0], [2.0], [3.0], [6.0]])
    layer = ScaledStandardization(epsilon=0.1)
    value, d_kernel, d_weights = value_and_gradients(
        layer, tf.fill((4, 1), 0.5), upstream
    )
    assert_allclose(value, 0)
    assert_allclose(d_kernel, (upstream - 3) / (2 * 0.1), rtol=1e-5)
    assert_allclose(d_weights["gain"], 0)


@pytest.mark.parametrize(
    "shape, preserving, balanced",
    [((5, 2, 6), True, False), ((2, 2, 2, 3, 4), False, True)],
)
def test_value_and_gradients(shape, preserving, balanced):
    rng = np.random.default_rng(4)
    kernel = rng.uniform(0, 1e-3, shape).astype(np.float32).astype(np.float64)
    upstream = rng.normal(size=shape)
    gain = rng.normal(1, 0.3, shape[-1])
    layer = ScaledStdSign(
        scale=0.3, variance_preserving=preserving, balanced=balanced, dtype="float64"
    )
    layer.build(shape)
    layer.gain.assign(gain)
    value, d_kernel, d_weights = value_and_gradients(layer, kernel, upstream)
    form = {"preserving": preserving, "balanced": balanced}
    signs = std_signs(kernel, 0.3, 1e-5, **form)
    expected = scaled_std_sign(kernel, {"gain": gain}, upstream, 0.3, 1e-5, **form)
    assert_allclose(value, gain * signs, rtol=1e-10)
    assert_allclose(d_kernel, expected["x"], rtol=1e-8, atol=1e-8)
    assert_allclose(d_weights["gain"], expected["gain"], rtol=1e-8)


@pytest.mark.parametrize("preserving", [False, True])
def test_powers_of_two(preserving):
    rng = np.random.default_rng(5)
    kernel, upstream = rng.normal(size=(2, 3, 3, 4, 5))
    gain = np.array([0.7, -1.3, 2.9, 1e-3, 0.0])
    layer = ScaledStdSign(
        scale=0.3, variance_preserving=preserving, power_of_two=True, dtype="float64"
    )
    layer.build(kernel.shape)
    layer.gain.assign(gain)
    value, d_kernel, d_weights = value_and_gradients(layer, kernel, upstream)
    signs = std_signs(kernel, 0.3, 1e-5, preserving=preserving)
    magnitude = np.abs(signs[0, 0, 0])
    exponents = np.round(np.log2(np.abs(gain[:4]) * magnitude[:4]))
    rounded = np.append(np.sign(gain[:4]) * 2**exponents / magnitude[:4], 0)
    expected = scaled_std_sign(
        kernel, {"gain": rounded}, upstream, 0.3, 1e-5, preserving=preserving
    )
    assert_allclose(value, rounded * signs, rtol=1e-12)
    assert_allclose(d_kernel, expected["x"], rtol=1e-8, atol=1e-8)
    assert_allclose(d_weights["gain"], expected["gain"], rtol=1e-8)
    single = ScaledStdSign(power_of_two=True)(kernel.astype(np.float32)).numpy()
    assert (np.frexp(np.abs(single))[0] == 0.5).all()  # exact, so a shift of bits


def test_variance_preserving_output_has_unit_variance():
    rng = np.random.default_rng(8)
    kernel = rng.uniform(0, 1e-3, (3, 3, 64, 32)).astype(np.float32)
    inputs = rng.choice([-1.0, 1.0], (500, 576)).astype(np.float32)
    preserving, published = (
        inputs @ np.reshape(ScaledStdSign(variance_preserving=flag)(kernel), (576, 32))
        for flag in (True, False)
    )
    # 16,000 samples: the standard error of a variance is about 0.011.
    assert_allclose(preserving.var(), 1, atol=0.05)
    assert_allclose(published.var(), 0.7006, atol=0.05)


def test_half_precision_keeps_the_statistics_in_float32():
    kernel = tf.cast(300 + drawn(11, (3, 3, 16, 4)), tf.float16)
    for layer in (ScaledStandardization(), ScaledStdSign(), ReCU()):
        value = layer(kernel)
        exact = layer(tf.cast(kernel, tf.float32)).numpy()
        assert value.dtype == tf.float16
        assert_allclose(value, exact, rtol=0, atol=2e-3 * np.abs(exact).max())


@pytest.mark.parametrize(
    "half, trainable", [("mixed_bfloat16", True), ("mixed_float16", False)]
)
def test_mixed_precision_takes_signs_and_gradients_of_float32(half, trainable):
    """Weights that 16 bits do not tell apart, on either side of their median."""
    offsets = np.tile(np.arange(16.0), (5, 1))
    offsets = np.random.default_rng(12).permuted(offsets, axis=1).T
    kernel = (1 + offsets * 1e-5).astype(np.float32)
    assert (tf.cast(kernel, half.removeprefix("mixed_")).numpy() == 1).all()
    quantizer = ScaledStdSign(balanced=True, variance_preserving=True, gain=False)
    layer = lq.layers.QuantDense(5, kernel_quantizer=quantizer, dtype=half)
    layer.build((None, 16))
    layer.set_weights([kernel, np.zeros(5)])
    layer.trainable = trainable
    with tf.GradientTape() as tape:
        value = layer(np.eye(16))
        total = tf.reduce_sum(value * np.eye(16, 5))
    assert value.dtype == half.removeprefix("mixed_")
    assert_array_equal(np.sign(value), np.where(offsets >= 8, 1, -1))
    gradient = tape.gradient(total, layer.kernel.latent_variable)
    wide = kernel.astype(np.float64)
    form = {"preserving": True, "balanced": True}
    ones = {"gain": np.ones(5)}
    expected = scaled_std_sign(wide, ones, np.eye(16, 5), 1, 1e-5, **form)["x"]
    assert_allclose(gradient, expected, rtol=0, atol=0.01 * np.abs(expected).max())
