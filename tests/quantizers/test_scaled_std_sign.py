import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import value_and_gradients
from larq_nobn.quantizers import ScaledStdSign
from numpy.testing import assert_allclose, assert_array_equal

SHAPES = [(3, 3, 4, 5), (5, 2, 6), (2, 2, 2, 3, 4), (8, 3)]


def oracle(kernel, gain, upstream, scale, epsilon, preserving, balanced):
    """Value, kernel gradient and gain gradient, filter by filter in float64."""
    value, d_kernel = np.empty_like(kernel), np.empty_like(kernel)
    d_gain = np.empty_like(gain)
    for o in range(kernel.shape[-1]):
        w, g = kernel[..., o], scale * gain[o] * upstream[..., o]
        n, sigma = w.size, w.std()
        d = w - w.mean()
        hat = d / (np.sqrt(n) * (sigma + epsilon))
        s = n**-0.5 if preserving else np.abs(hat).mean()
        sign = np.where(w >= (np.median(w) if balanced else w.mean()), 1.0, -1.0)
        value[..., o] = scale * gain[o] * s * sign
        d_gain[o] = np.sum(scale * s * sign * upstream[..., o])
        along = d * np.mean(g * d) / (sigma * (sigma + epsilon))
        d_kernel[..., o] = (g - g.mean() - along) / (np.sqrt(n) * (sigma + epsilon))
    return value, d_kernel, d_gain


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("preserving", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
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
    expected = oracle(kernel, gain, upstream, 0.3, 1e-5, preserving, balanced)
    assert_allclose(value, expected[0], rtol=1e-10)
    assert_allclose(d_kernel, expected[1], rtol=1e-8, atol=1e-8)
    assert_allclose(d_weights["gain"], expected[2], rtol=1e-8)


def test_float32_agrees_to_rounding():
    rng = np.random.default_rng(5)
    kernel = rng.uniform(0, 1e-3, (3, 3, 64, 8)).astype(np.float32)
    upstream = rng.normal(size=kernel.shape).astype(np.float32)
    value, d_kernel, d_weights = value_and_gradients(ScaledStdSign(), kernel, upstream)
    expected = oracle(
        kernel.astype(np.float64), np.ones(8), upstream, 1, 1e-5, False, False
    )
    # One weight in 4,608 may lie within rounding of its filter's mean.
    assert np.mean(np.sign(value) != np.sign(expected[0])) < 1e-3
    assert_allclose(np.abs(value), np.abs(expected[0]), rtol=1e-6)
    assert_allclose(d_kernel, expected[1], atol=1e-6 * np.abs(expected[1]).max())
    assert_allclose(d_weights["gain"], expected[2], rtol=1e-4, atol=1e-4)


def test_published_number():
    kernel = tf.reshape(tf.constant([1.0, 2.0, 3.0, 4.0]), (4, 1))
    value = ScaledStdSign()(kernel)[:, 0]
    assert_allclose(value, 0.4472095955 * np.array([-1, -1, 1, 1]), rtol=1e-6)


@pytest.mark.parametrize("scale", [0.2, 0.25, 3.0])
def test_scale_multiplies_value_and_both_gradients(scale):
    rng = np.random.default_rng(6)
    kernel = rng.uniform(0, 1e-3, (3, 3, 16, 8)).astype(np.float32)
    upstream = rng.normal(size=kernel.shape).astype(np.float32)
    plain = value_and_gradients(ScaledStdSign(), kernel, upstream)
    scaled = value_and_gradients(ScaledStdSign(scale=scale), kernel, upstream)
    assert_array_equal(
        scaled[0].astype(np.float32), np.float32(scale) * plain[0].astype(np.float32)
    )
    largest = np.abs(scaled[1]).max()
    assert_allclose(scaled[1], scale * plain[1], atol=1e-6 * largest)
    assert_allclose(scaled[2]["gain"], scale * plain[2]["gain"], rtol=1e-6)


def test_balanced_filters_have_as_many_of_each_sign():
    kernel = np.random.default_rng(7).lognormal(size=(3, 3, 8, 6)).astype(np.float32)
    signs = np.sign(ScaledStdSign(balanced=True)(kernel))
    assert_array_equal(signs.sum((0, 1, 2)), 0)
    unbalanced = np.sign(ScaledStdSign()(kernel)).sum((0, 1, 2))
    assert np.all(unbalanced < 0)  # a log-normal mean lies above the median


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


def test_affine_changes_of_the_latent_weights_do_not_show():
    kernel = np.random.default_rng(9).normal(size=(3, 3, 4, 5)).astype(np.float32)
    value = ScaledStdSign(epsilon=1e-9)(kernel)
    assert_allclose(ScaledStdSign(epsilon=1e-9)(2 * kernel + 1), value, rtol=1e-5)
    assert_allclose(ScaledStdSign(epsilon=1e-9)(-kernel), -value, rtol=1e-6)


def test_negative_and_zero_gain():
    kernel = np.random.default_rng(10).normal(size=(3, 3, 4, 2)).astype(np.float32)
    plain = ScaledStdSign()(kernel)
    layer = ScaledStdSign()
    layer.build(kernel.shape)
    layer.gain.assign([-2.0, 0.0])
    assert_allclose(layer(kernel), plain * np.array([-2.0, 0.0]), rtol=1e-6)


def test_half_precision_keeps_the_statistics_in_float32():
    kernel = tf.cast(
        np.random.default_rng(11).normal(300, 1, (3, 3, 64, 4)), tf.float16
    )
    value = ScaledStdSign()(kernel)
    exact = ScaledStdSign()(tf.cast(kernel, tf.float32))
    assert value.dtype == tf.float16
    assert_array_equal(np.sign(value), np.sign(exact))
    assert_allclose(value, exact, rtol=1e-3)


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("half", ["mixed_bfloat16", "mixed_float16"])
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
    centred = kernel.astype(np.float64) - kernel.mean(0, dtype=np.float64)
    sigma = centred.std(0)
    upstream = np.eye(16, 5) - 1 / 16
    upstream -= centred * (upstream * centred).mean(0) / (sigma * (sigma + 1e-5))
    wanted = upstream / (4 * (sigma + 1e-5))
    assert_allclose(gradient, wanted, rtol=0, atol=0.01 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["variance_preserving", "balanced"])
def test_rejects_flags_that_are_none(name):
    with pytest.raises(TypeError, match=f"{name}='yes' is neither True nor False"):
        ScaledStdSign(**{name: "yes"})


def test_rejects_a_second_owner():
    shared = ScaledStdSign()
    shared(tf.ones((3, 3, 4, 5)))
    with pytest.raises(ValueError, match=r"\(3, 3, 4, 5\) and \(3, 3, 8, 5\)"):
        shared(tf.ones((3, 3, 8, 5)))
