"""SignSwish, SigmoidSign and ReSTE: published slopes, far inputs, what they carry on.

The contract compares their gradients with oracles in every rank and precision.
"""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from gradients import finite_differences, value_and_gradients
from larq_nobn._keras import keras
from larq_nobn.quantizers import ReSTE, RSign, SigmoidSign, SignSwish
from numpy.testing import assert_allclose, assert_array_equal


def slope_of(layer, x):
    x = tf.constant(x, layer.dtype)
    return value_and_gradients(layer, x, np.ones(x.shape))[1]


def swish(x, beta):
    """SignSwish itself; x may be complex, and so gives its own derivative."""
    gate = 1 / (1 + np.exp(-beta * x))
    return 2 * gate * (1 + beta * x * (1 - gate)) - 1


def test_sign_swish_has_the_derivative_of_its_function():
    x = np.linspace(-2, 2, 41)
    for beta in (1.0, 20.0):
        complex_step = swish(x + 1e-30j, beta).imag / 1e-30
        found = slope_of(SignSwish(beta, dtype="float64"), x)
        assert_allclose(found, complex_step, atol=1e-12)
    layer = SignSwish(5.0, trainable_beta=True, dtype="float64")
    # The sum over ±x cancels, unless the two count differently.
    upstream = np.where(x > 0, 1.0, 0.25)
    _, _, d_weights = value_and_gradients(layer, x[None], upstream[None])
    expected = finite_differences(
        lambda beta: np.sum(upstream * swish(x, beta)), np.array(5.0)
    )
    assert_allclose(d_weights["beta"], expected, rtol=1e-7)


@pytest.mark.parametrize("slope", [0.5, 10.0])
def test_sigmoid_sign_has_the_slope_of_a_step_of_height_two(slope):
    x = np.linspace(-60, 60, 120001)
    d_x = slope_of(SigmoidSign(slope, dtype="float64"), x)
    # The derivative of tanh(ax/2) = 2s(ax) - 1.
    assert_allclose(d_x, slope / 2 / np.cosh(slope * x / 2) ** 2, rtol=1e-9)
    assert_allclose(np.sum(d_x) * 1e-3, 2, rtol=1e-6)


@pytest.mark.parametrize("power", [1.0, 1.7, 3.0])
def test_reste_has_the_derivative_of_a_root(power):
    layer = ReSTE(power, dtype="float64")
    x = np.concatenate([np.linspace(-1.49, -0.11, 40), np.linspace(0.11, 1.49, 40)])
    slopes = finite_differences(
        lambda z: np.sum(np.sign(z) * np.abs(z) ** (1 / power)), x
    )
    assert_allclose(slope_of(layer, x), slopes, rtol=1e-8)
    # Near zero a straight line leads as high as the root does.
    edges = np.linspace(-2, 2, 400_001)
    total = slope_of(layer, (edges[1:] + edges[:-1]) / 2).sum() * 1e-5
    assert total == pytest.approx(2 * 1.5 ** (1 / power), rel=1e-4)
    x = np.array([0.0, -0.0, 1e-30, 1e30, -1e30])
    value, d_x, _ = value_and_gradients(ReSTE(power), x.astype("float32"), x * 0 + 1)
    assert_array_equal(value, [1, 1, 1, 1, -1])
    assert_allclose(d_x, [0.1 ** (1 / power - 1)] * 3 + [0, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_far_inputs_have_finite_gradients(dtype):
    largest = float(tf.as_dtype(dtype).max)
    x = np.array([0.0, 1e-30, 17.0, 1e4, 6e4, largest])
    x = tf.constant([[*x, *-x]], dtype)
    learned = SignSwish(20.0, trainable_beta=True, dtype=dtype)
    for layer, steepest in ((learned, 20), (SigmoidSign(dtype=dtype), 1.5)):
        value, d_x, d_weights = value_and_gradients(layer, x, np.ones(x.shape))
        assert_array_equal(value, np.where(np.asarray(x, np.float64) >= 0, 1, -1))
        assert_allclose(d_x[0, [0, 1, 6, 7]], steepest)
        assert_allclose(d_x[0, [2, 3, 4, 5, 8, 9, 10, 11]], 0, atol=1e-20)
        assert all(np.isfinite(slope).all() for slope in d_weights.values())


@pytest.mark.parametrize("optimizer", ["SGD", "legacy.SGD"])
@pytest.mark.parametrize("upstream, kept", [(-100.0, 20.0), (100.0, 1.0)])
def test_a_learned_beta_stays_inside_its_bounds(optimizer, upstream, kept):
    layer = SignSwish(trainable_beta=True)
    x = tf.constant([[0.2]])
    with tf.GradientTape() as tape:
        loss = upstream * tf.reduce_sum(layer(x))
    gradients = tape.gradient(loss, layer.trainable_weights)
    new = {"SGD": keras.optimizers.SGD, "legacy.SGD": keras.optimizers.legacy.SGD}
    pairs = zip(gradients, layer.trainable_weights, strict=True)
    new[optimizer](100.0).apply_gradients(pairs)
    assert float(layer.beta) == kept


def test_surgery_carries_the_power_on():
    kernel = {"kernel_quantizer": "reste", "kernel_constraint": "weight_clip"}
    image = keras.Input((2, 2, 8))
    x = keras.layers.BatchNormalization()(image)
    sign = RSign(estimator="reste")
    x = lq.layers.QuantConv2D(8, 1, name="conv", input_quantizer=sign, **kernel)(x)
    x = keras.layers.BatchNormalization()(x)
    x = lq.layers.QuantConv2D(8, 1, name="last", input_quantizer=ReSTE(), **kernel)(x)
    model = keras.Model(image, x)
    for name in ("conv", "last"):
        model.get_layer(name).input_quantizer.power.assign(2.5)
    images = np.random.default_rng(82).normal(size=(3, 2, 2, 8)).astype("float32")
    # Folded into the first sign, and after the first kernel; removed from both signs.
    kinds = {nobn.fold_batch_norm: ReSTE, nobn.remove_batch_norm: RSign}
    for change, of_last in kinds.items():
        changed = change(model)
        signs = [changed.get_layer(n).input_quantizer for n in ("conv", "last")]
        assert [type(sign) for sign in signs] == [RSign, of_last]
        assert [float(sign.power) for sign in signs] == [2.5, 2.5]
        assert signs[0].estimator == getattr(signs[1], "estimator", "reste") == "reste"
    assert_allclose(nobn.fold_batch_norm(model)(images), model(images), atol=1e-3)
