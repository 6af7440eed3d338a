"""Layers in other places than the networks of the package have them."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import layers, quantizers
from calibration.oracle import deviation, mean, tensors
from larq_nobn._keras import keras
from larq_nobn.graph._models import flattened
from numpy.testing import assert_allclose, assert_array_equal


def images(count=32, channels=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0.5, 2.0, (count, 6, 6, channels)).astype(np.float32)


def conv(filters=4, size=3, binary=True, **changes):
    """A convolution with a gain; of signs with a shift, or else of real values."""
    kind = quantizers.ScaledStdSign if binary else quantizers.ScaledStandardization
    signs = {"input_quantizer": quantizers.RSign(), "pad_values": 1.0} if binary else {}
    settings = {"padding": "same", "use_bias": False, "kernel_quantizer": kind()}
    return lq.layers.QuantConv2D(filters, size, **{**settings, **signs, **changes})


def calibrated(inputs, outputs, data=None):
    model = keras.Model(inputs, outputs)
    nobn.calibrate(model, images() if data is None else data)
    return model


def value(model, tensor, data=None):
    return tensors(model, images() if data is None else data, [tensor])[0]


@pytest.fixture
def x():
    keras.utils.set_random_seed(0)
    return keras.Input((6, 6, 4))


def test_signs_of_every_kind(x):
    """Scaled ones, those of layers and activations, after what is run as it is."""
    signs = [quantizers.RSign(scale=0.5), *(quantizers.RSign() for _ in range(2))]
    square = keras.layers.Lambda(tf.square)(x)
    ends = [signs[0](x), keras.layers.Activation(signs[1])(x), signs[2](square)]
    calibrated(x, ends)
    actual, squares = (
        mean(images().astype(float)),
        mean(np.square(images().astype(float))),
    )
    wanted = (-0.5 * actual, -actual, -squares)
    for sign, shift in zip(signs, wanted, strict=True):
        assert_allclose(sign.shift, shift, rtol=1e-5)


def test_kernels_without_a_gain_and_inside_a_regularized_one(x):
    layer, act = (
        conv(kernel_quantizer=quantizers.ScaledStdSign(gain=False)),
        layers.RPReLU(),
    )
    inside = quantizers.ScaledStdSign(scale=0.3)
    y = layer(x)
    z = conv(kernel_quantizer=quantizers.BinaryRegularized(inside))(x)
    waves = conv(kernel_quantizer=quantizers.BiPer(scale=0.3))(x)
    model = calibrated(x, [act(y), z, waves])
    assert_allclose(layer.input_quantizer.shift, -mean(images()), rtol=1e-4)
    assert_allclose(act.shift_in, -mean(value(model, y)), rtol=1e-5)
    for other in (z, waves):
        assert_allclose(deviation(value(model, other)), 0.3, rtol=1e-5)


def test_gains_keep_their_sign_after_a_pool_too(x):
    layer = conv(binary=False, use_bias=True)
    y = keras.layers.MaxPool2D(2)(layer(x))
    model = keras.Model(x, y)
    gain = layer.kernel_quantizer.gain
    gain.assign([-2.0, 1.0, -0.5, 3.0])
    layer.bias.assign([1.0, -1.0, 0.0, 2.0])
    nobn.calibrate(model, images())
    assert_array_equal(np.sign(gain), [-1, 1, -1, 1])
    actual = value(model, y)
    assert_allclose(deviation(actual), 1.0, rtol=1e-5)
    assert_allclose(mean(actual), 0.0, atol=1e-6)


def test_channels_that_do_not_vary_keep_their_gain(x):
    first = conv(binary=False, padding="valid", kernel_initializer="he_normal")
    second = conv(padding="valid")
    model = keras.Model(x, second(first(x)))
    nobn.calibrate(model, np.ones((16, 6, 6, 4), np.float32))
    for layer in (first, second):
        assert_array_equal(layer.kernel_quantizer.gain, np.ones(4))


def test_sums_pools_and_dropout_pass_means_on(x):
    stem = conv(binary=False)(x)
    pooled = keras.layers.MaxPool2D(2)(stem)
    branch = keras.layers.SpatialDropout2D(0.5)(conv(strides=2)(stem))
    scaled = layers.SkipInit(keras.initializers.Constant(0.5))
    act = layers.RPReLU()
    model = calibrated(x, act(pooled + scaled(branch)))
    wanted = mean(value(model, stem)) + 0.5 * mean(value(model, branch))
    assert_allclose(act.shift_in, -wanted, rtol=1e-5)


def test_models_inside_models(x):
    inner_input = keras.Input((6, 6, 4))
    inner = keras.Model(inner_input, conv()(inner_input))
    block = keras.Sequential([conv(binary=False, input_shape=(6, 6, 4)), inner])
    act = layers.RPReLU()
    model = calibrated(x, act(block(x)))
    flat = flattened(model)
    real, binary = [layer.output for layer in flat.layers[1:3]]
    assert_allclose(deviation(value(flat, real)), 1.0, rtol=1e-5)
    assert_allclose(deviation(value(flat, binary)), 1.0, rtol=1e-5)
    assert_allclose(act.shift_in, -mean(value(flat, binary)), rtol=1e-5)


class Lifted(lq.quantizers.Quantizer):
    """sign(3x - w): its threshold is a third of the weight."""

    precision = 1

    def build(self, shape):
        self.w = self.add_weight("w", (shape[-1],), initializer="zeros")

    def call(self, inputs):
        return lq.math.sign(3.0 * inputs - self.w)


class Curved(Lifted):
    """sign(x - w²): no weight is proportional to the threshold."""

    def call(self, inputs):
        return lq.math.sign(inputs - tf.square(self.w))


class Stretched(lq.quantizers.Quantizer):
    """k·sign(W)."""

    precision = 1

    def build(self, shape):
        self.k = self.add_weight("k", (shape[-1],), initializer="ones")

    def call(self, inputs):
        return self.k * lq.math.sign(inputs)


def test_signs_and_gains_of_a_user_are_known_by_what_they_compute(caplog):
    """Means of 0 and deviations of 1, in NumPy; what is not known is named."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(rng.normal(size=6), rng.uniform(1, 2, 6), (64, 5, 5, 6))
    x = x.astype(np.float32)
    conv = lq.layers.QuantConv2D(
        4, 3, use_bias=False, name="conv",
        input_quantizer=Lifted(), kernel_quantizer=Stretched(),
    )  # fmt: skip
    last = lq.layers.QuantDense(2, name="last", input_quantizer=Curved())
    pool = keras.layers.GlobalAveragePooling2D()
    model = keras.Sequential([keras.Input((5, 5, 6)), conv, pool, last])
    with caplog.at_level("WARNING"):
        nobn.calibrate(model, x, examples=64)
    mean = x.astype(np.float64).mean((0, 1, 2))
    assert_allclose(conv.input_quantizer.w, 3 * mean, rtol=1e-4)
    assert_allclose(conv(x).numpy().std((0, 1, 2)), 1, rtol=1e-3)
    assert_array_equal(last.input_quantizer.w, np.zeros(4))
    assert "leaves weights of last as they are" in caplog.text
