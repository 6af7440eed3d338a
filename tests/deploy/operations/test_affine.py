"""Scales and biases: what is read as one, and which operations take them over."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, images
from deploy.operations.programs import (
    BOTH_SIGNS,
    POSITIVE,
    SHAPE,
    SOME_ZERO,
    affine,
    check_together,
    factors_left,
    kinds_of,
    nodes_of,
    program_of,
    row,
    scaled_conv,
)
from larq_nobn._keras import keras
from larq_nobn.deploy.operations._kinds import Affine, Kernel
from larq_nobn.graph._signs import kernel_value
from larq_nobn.quantizers import RSign
from numpy.testing import assert_allclose, assert_array_equal

layers = keras.layers


# --- What is read as a scale and a bias.


class Doubled(layers.BatchNormalization):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training)


READ = {
    "batch norm": layers.BatchNormalization(),
    "affine": nobn.layers.ChannelAffine(),
    "rescaling of places": layers.Rescaling(np.ones((8, 8, 32)), 1.0),
    "a user's": Doubled(),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_as_an_affine_operation(name):
    """A kernel after it takes that over."""
    program = program_of(row("tanh", READ[name], "conv", scramble=True))
    left = ["Mul"] if name == "rescaling of places" else []
    assert kinds_of(program) == ["Tanh", *left, "Kernel"]


def test_gains_are_those_of_float64():
    """In float32, epsilon would be lost beside the variance."""
    norm = layers.BatchNormalization(epsilon=1e-3)
    model = chain(norm, scramble=False, stem=False, shape=SHAPE)
    gamma, beta, mean, variance = np.random.default_rng(3).uniform(1, 9, (4, 32))
    norm.set_weights([gamma, beta, mean, variance])
    gamma, beta, mean, variance = (w.astype("f8") for w in norm.get_weights())
    (node,) = program_of(model).nodes
    gain = gamma / np.sqrt(variance + 1e-3)
    assert_allclose(node.k, gain, rtol=1e-9)
    assert_allclose(node.b, beta - gain * mean, rtol=1e-7)


# Rows of layers, of which none keeps a gain.
VANISHES = [
    # Into what stands before.
    "binary both second third",
    "scaled average both",
    # Into kernels after them.
    "tanh positive conv-same tanh",
    "tanh both conv-same",
    "tanh positive depthwise tanh",
    "tanh positive relu flatten dense",
    "tanh positive prelu conv",
    # Before signs.
    "tanh positive binary",
    "tanh positive maximum rsign",
    "tanh turned binary-1x1",
    "average-valid positive flatten binary-dense",
]
# Rows that keep one.
STAYS = [
    "scaled maximum both",
    "tanh both relu dense",
    "tanh positive relu6 dense",
    "tanh positive conv-ones",
    # Before signs, with ones at the border, a maximum, or without a kernel to turn.
    "tanh both binary",
    "tanh both maximum binary-1x1",
    "tanh both real-of-signs",
    "tanh zero binary-1x1",
    "tanh positive tanh",
    "tanh positive",
]


@pytest.mark.parametrize("words", VANISHES)
def test_gains_that_vanish(words):
    assert factors_left(row(words)) == {}


@pytest.mark.parametrize("words", STAYS)
def test_gains_that_stay(words):
    assert "affine" in factors_left(row(words))


def test_shared_layers_compute_the_same():
    conv, norm = binary_conv(size=1), affine(POSITIVE)
    program_of(row("tanh positive", conv, "relu", conv))
    program_of(row("binary", norm, "relu", norm))


# --- Into the layer before.


@pytest.mark.parametrize(
    "conv, gain", [(binary_conv, BOTH_SIGNS), (scaled_conv, SOME_ZERO)]
)
def test_a_binary_convolution_contains_what_stands_after_it(conv, gain):
    """Where a gain is negative, in a turned kernel."""
    conv, norm = conv(), affine(gain)
    program = program_of(row(conv, norm))
    (node,) = nodes_of(program, Kernel)
    assert not nodes_of(program, Affine)
    assert_array_equal(np.abs(node.weights), 1)
    assert np.all(node.scale >= 0)
    wanted = kernel_value(conv.kernel) * gain
    assert_allclose(node.weights * node.scale, wanted, rtol=1e-6)
    (_, beta, mean, _), bias = norm.get_weights(), conv.bias if conv.use_bias else 0
    assert_allclose(node.bias, gain * (bias - mean) + beta, rtol=1e-5, atol=1e-6)


# --- Into layers after.


@pytest.mark.convert
def test_kernels_that_meet_all_of_a_map_take_any_gain_and_bias():
    """Of one file, each after an input of its own."""
    kinds = ("conv", "dense", "depthwise", "average-valid conv-32")
    rows = [row("tanh", affine(BOTH_SIGNS), kind, "tanh") for kind in kinds]
    for number, model in enumerate(rows):
        model._name = f"row{number}"
    rows = dict(zip(kinds, rows, strict=True))
    audit = check_together(rows, images(4, SHAPE), 1e-4)
    assert not {"ADD", "SUB", "MUL"} & set(audit.ops)


# --- Before signs.


@pytest.mark.parametrize(
    "sign, gain",
    [
        (lambda: RSign(name="sign"), BOTH_SIGNS),
        (lambda: layers.Activation(lq.quantizers.SteSign(), name="sign"), BOTH_SIGNS),
    ],
)
def test_signs_as_layers_forget_them_too(sign, gain):
    conv = binary_conv(size=1, input_quantizer=None)
    assert factors_left(row("tanh", affine(gain), sign(), conv)) == {}


@pytest.mark.parametrize(
    "changes, between",
    [({"size": 1, "strides": 2}, "average-valid"), ({"pad_values": 0.0}, "")],
)
def test_negative_gains_before_a_sign_turn_the_kernel(changes, between):
    conv = binary_conv(**changes)
    program = program_of(row("tanh both", between, conv))
    assert not nodes_of(program, Affine)
    (node,) = nodes_of(program, Kernel)
    turned = np.where(conv.kernel < 0, -1, 1) * np.sign(BOTH_SIGNS)[:, None]
    assert_array_equal(node.weights, turned)


@pytest.mark.convert
def test_turned_signs_are_compared_with_those_of_the_given_model(tmp_path):
    """A file has the opposite of them, in some channels."""
    model = row("tanh both", binary_conv(size=1, padding="valid"), "norm binary")
    verify = nobn.convert(model, tmp_path / "m.tflite", data=images(8, SHAPE)).verify
    assert verify["exact_share"] == verify["prepared"]["exact_share"] == 1
    assert verify["segments"]["compared"] > 2


@pytest.mark.parametrize("between", ["", "dropout maximum"])
def test_a_binary_layer_after_a_sign_layer_may_have_a_sign_of_its_own(between):
    """It takes signs of signs, which would be opposite ones with those."""
    sign = layers.Activation(lq.quantizers.SteSign())
    model = row("tanh both", sign, between, binary_conv(size=1, name="conv"))
    x = images(8, SHAPE)
    assert_array_equal(nobn.deploy.prepared(model)(x), model(x))


def test_an_affine_layer_of_whole_numbers_drops_what_is_after_the_point():
    start = keras.Input((8,))
    affine = nobn.layers.ChannelAffine()
    x = affine(layers.Discretization([-0.5, 0.0, 0.5])(start))
    model = keras.Model(start, layers.Dense(4)(x))
    affine.set_weights([np.linspace(0.6, 1.4, 8), np.linspace(-0.4, 0.4, 8)])
    given = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    actual = nobn.deploy.prepared(model, allow_float=True)(given)
    assert_allclose(actual, model(given), rtol=1e-5, atol=1e-6)
