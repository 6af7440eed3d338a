"""Where the weights of batch norm and of kernels go."""

import json

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn._keras import keras
from numpy.testing import assert_allclose, assert_array_equal
from surgery.removing import binary, conv, image, noise, norm, randomized, stem

layers = keras.layers


def removed(inputs, outputs, seed=0, **arguments):
    """The given model, the new one, and the rows of the report."""
    given = randomized(keras.Model(inputs, outputs), seed)
    free, report = nobn.remove_batch_norm(given, return_report=True, **arguments)
    json.dumps(report.to_dict())
    return given, free, {change.layer: change for change in report.changes}


def latent(layer):
    variable = layer.kernel
    return getattr(variable, "latent_variable", variable).numpy()


def factors(model, name):
    layer = model.get_layer(name)
    return layer.gamma.numpy(), layer.beta.numpy()


def test_a_batch_norm_after_a_kernel_becomes_its_gain_and_bias():
    inputs = image()
    given, free, changes = removed(inputs, norm(binary(stem(inputs), "conv"), "norm"))
    for layer, of in (("stem", "stem_norm"), ("conv", "norm")):
        gamma, beta = factors(given, of)
        assert np.any(gamma < 0)
        new = free.get_layer(layer)
        assert_array_equal(new.kernel_quantizer.gain, gamma)
        assert_array_equal(new.bias, beta)
        assert_array_equal(latent(new), latent(given.get_layer(layer)))
        assert new.kernel_constraint is None
        assert changes[of].action == f"removed; gain and bias to '{layer}'"
    assert changes["conv"].action == "rsign; scaled_std_sign, gain from 'norm'"
    assert changes["conv"].kind == "QuantConv2D"
    assert [layer.name for layer in free.layers[1:]] == ["stem", "conv"]


def test_a_float_convolution_is_the_standardized_one():
    inputs = image()
    given, free, _ = removed(inputs, stem(inputs))
    kernel = given.get_layer("stem").get_weights()[0].reshape(-1, 4)
    gamma, beta = factors(given, "stem_norm")
    kernel = gamma * (kernel - kernel.mean(0)) / (6 * (kernel.std(0) + 1e-5))
    x = noise(2, 8, 8, 4)
    wanted = keras.backend.conv2d(x, kernel.reshape(3, 3, 4, 4), padding="same") + beta
    assert_allclose(free(x), wanted, atol=1e-5)


def test_the_bias_of_a_branch_is_scaled_as_the_branch_is():
    inputs = image()
    x = stem(inputs)
    x = layers.add([norm(binary(x, "conv"), "norm"), x])
    given, free, changes = removed(inputs, nobn.layers.RPReLU(name="act")(x))
    assert_allclose(free.get_layer("conv").bias, 0.2 * factors(given, "norm")[1])
    assert changes["norm"].action == "removed; gain and bias to 'conv'"
    assert changes["conv"].action.startswith("rsign; scaled_std_sign, alpha 0.2, gain")


def test_without_scale_or_center():
    inputs = image()
    x = norm(conv(inputs, "first", use_bias=True), "first_norm", center=False)
    x = norm(binary(x, "second"), "second_norm", scale=False)
    given, free, changes = removed(inputs, x)
    assert not free.get_layer("first").use_bias
    assert_array_equal(free.get_layer("second").kernel_quantizer.gain, np.ones(4))
    beta = given.get_layer("second_norm").beta
    assert_array_equal(free.get_layer("second").bias, beta)
    assert changes["first_norm"].action == "removed; gain to 'first'"


def test_a_gain_of_zero_stays_binary_and_alive():
    inputs = image()
    x = norm(binary(inputs, "conv"), "norm")
    given = keras.Model(inputs, x)
    given.get_layer("norm").gamma.assign([0.0, -1e-6, 0.5, -0.5])
    free = nobn.remove_batch_norm(given)
    gain = free.get_layer("conv").kernel_quantizer.gain
    assert_allclose(gain, [1e-4, -1e-4, 0.5, -0.5])


def test_a_batch_norm_before_signs_becomes_their_shift():
    inputs = image()
    x = layers.ReLU()(stem(inputs))
    x = norm(x, "norm")
    y = layers.concatenate([binary(x, "left"), binary(x, "right")])
    given = keras.Model(inputs, norm(y, "last"))
    gamma = np.array([0.5, 2.0, 1e-9, 0.1], np.float32)
    given.get_layer("norm").gamma.assign(gamma)
    given.get_layer("norm").beta.assign([0.25, 1.0, -1.0, 1.0])
    free, report = nobn.remove_batch_norm(given, return_report=True)
    # The mean of a rectified normal, in its standard deviations, is the threshold at
    # beta = 0.
    mean, deviation = (2 * np.pi) ** -0.5, (0.5 - 0.5 / np.pi) ** 0.5
    wanted = np.array([0.5, 0.5, -3.0, 3.0]) - mean / deviation
    for name in ("left", "right"):
        new = free.get_layer(name)
        assert_allclose(new.input_quantizer.shift, wanted, rtol=1e-5)
        assert new.input_quantizer.scale == pytest.approx(1 / deviation)
        old = latent(given.get_layer(name))
        assert_array_equal(latent(new), old)
    changes = {change.layer: change.action for change in report.changes}
    assert changes["norm"] == "removed; shift of 'left', 'right'"
    given.get_layer("norm").gamma.assign([0.5, -2.0, 1e-9, 0.1])
    _, report = nobn.remove_batch_norm(given, return_report=True)
    reasons = {change.layer: change.reason for change in report.changes}
    assert reasons["norm"] == "some of its factors are negative"


def test_where_nothing_else_can_hold_it_an_affine_layer_does():
    inputs = image()
    x = layers.ReLU()(stem(inputs))
    x = norm(x, "norm")
    x = layers.add([norm(binary(x, "conv"), "conv_norm"), x])
    given, free, changes = removed(inputs, x)
    gamma, beta = factors(given, "norm")
    affine = free.get_layer("norm")
    assert isinstance(affine, nobn.layers.ChannelAffine)
    gain = gamma / np.sqrt(0.5 - 0.5 / np.pi + 1e-3)
    assert_allclose(affine.gamma, gain, rtol=1e-5)
    assert_allclose(affine.beta, beta - gain * (2 * np.pi) ** -0.5, rtol=1e-5)
    assert changes["norm"].action == "channel_affine"
    assert changes["norm"].reason == "more than a sign reads it"


def test_a_maximum_keeps_negative_factors_after_it():
    inputs = image()
    x = layers.MaxPool2D(2)(conv(inputs, "conv"))
    given = keras.Model(inputs, layers.ReLU()(norm(x, "norm")))
    assert nobn.remove_batch_norm(given).get_layer("conv").use_bias
    given.get_layer("norm").gamma.assign([1.0, 1.0, 1.0, -1.0])
    free = nobn.remove_batch_norm(given)
    assert_allclose(free.get_layer("norm").gamma, [1, 1, 1, -1], rtol=1e-3)
    assert_array_equal(free.get_layer("conv").kernel_quantizer.gain, np.ones(4))


def test_a_classifier_and_other_kernels_stay():
    inputs = image()
    x = layers.ReLU()(stem(inputs))
    x = layers.SeparableConv2D(6, 3, name="separable", use_bias=False)(x)
    x = norm(x, "separable_norm")
    x = layers.Conv2DTranspose(4, 3, name="transposed", use_bias=False)(x)
    x = norm(x, "transposed_norm")
    x = layers.GlobalAveragePooling2D()(x)
    x = norm(layers.Dense(8, name="dense", use_bias=False)(x), "dense_norm")
    given, free, _ = removed(inputs, layers.Dense(3, name="head")(layers.ReLU()(x)))
    assert type(free.get_layer("head")) is layers.Dense
    assert_array_equal(free.get_layer("head").kernel, given.get_layer("head").kernel)
    assert type(free.get_layer("transposed")) is layers.Conv2DTranspose
    for name, quantizer in (("separable", "pointwise"), ("dense", "kernel")):
        new = getattr(free.get_layer(name), f"{quantizer}_quantizer")
        assert isinstance(new, nobn.quantizers.ScaledStandardization)
        assert_array_equal(new.gain, factors(given, f"{name}_norm")[0])
    assert_array_equal(
        free.get_layer("separable").depthwise_kernel,
        given.get_layer("separable").depthwise_kernel,
    )
