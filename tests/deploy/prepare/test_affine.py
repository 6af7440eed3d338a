"""Scales and biases: what is read as one, and which layers take them over."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, images
from deploy.prepare.preparing import (
    BOTH_SIGNS,
    POSITIVE,
    SHAPE,
    SOME_ZERO,
    affine,
    affines,
    as_written,
    equal,
    file_of,
    made,
    names,
    prepared,
    program_of,
    row,
    scaled_conv,
)
from larq_nobn._keras import keras
from larq_nobn.deploy.inspection._audit import audit_bytes
from larq_nobn.deploy.lite._converter import Runner
from larq_nobn.deploy.prepare._prepare import prepare
from larq_nobn.deploy.verify._verify import prepared_signs
from larq_nobn.graph._segments import compare, record
from larq_nobn.layers._inference import PlainAffine
from larq_nobn.quantizers import RSign
from numpy.testing import assert_allclose, assert_array_equal

layers = keras.layers


# --- What is read as a scale and a bias.


class Doubled(layers.BatchNormalization):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training)


READ = {
    "batch norm": (layers.BatchNormalization(), PlainAffine),
    "affine": (nobn.layers.ChannelAffine(), PlainAffine),
    "skip init": (nobn.layers.SkipInit(), PlainAffine),
    "rescaling": (layers.Rescaling(0.5, -1.0), PlainAffine),
    "rescaling of places": (layers.Rescaling(np.ones((8, 8, 32)), 1.0), None),
    "a user's": (Doubled(), None),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_as_an_affine_operation(name):
    layer, kind = READ[name]
    model = chain(layer)
    new = equal(as_written(model), model).get_layer(layer.name)
    assert type(new) is (kind or type(layer))


def test_gains_are_those_of_float64():
    """In float32, epsilon would be lost beside the variance."""
    norm = layers.BatchNormalization(name="x", epsilon=1e-3)
    model = chain(norm, scramble=False)
    gamma, beta, mean, variance = np.random.default_rng(3).uniform(1, 9, (4, 32))
    norm.set_weights([gamma, beta, mean, variance])
    gamma, beta, mean, variance = (w.astype("f8") for w in norm.get_weights())
    new = as_written(model).get_layer("x")
    gain = gamma / np.sqrt(variance + 1e-3)
    assert_allclose(new.gain, gain, rtol=1e-7)
    assert_allclose(new.offset, beta - gain * mean, rtol=2e-7)


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
    assert affines(row(words)) == []


@pytest.mark.parametrize("words", STAYS)
def test_gains_that_stay(words):
    assert "affine" in affines(row(words))


def test_shared_layers_compute_the_same():
    for before, shared in (
        ("", binary_conv(name="conv")),
        ("tanh", layers.Conv2D(32, 1)),
        ("tanh", binary_conv(size=1)),
    ):
        rows = ["positive", shared] if before else [shared, "positive"]
        program_of(row(before, *rows, "relu", shared))
    norm = affine(POSITIVE)
    program_of(row("binary", norm, "relu", norm))


# --- Into the layer before.


@pytest.mark.parametrize("conv", [binary_conv, scaled_conv])
@pytest.mark.parametrize("gain", [POSITIVE, BOTH_SIGNS, SOME_ZERO])
def test_a_binary_convolution_contains_what_stands_after_it(conv, gain):
    model = row(conv(name="conv"), affine(gain))
    new = prepared(model)
    assert "affine" not in names(new)
    conv = new.get_layer("conv")
    assert_array_equal(np.abs(conv.kernel), 1)
    assert conv.scale.shape == conv.offset.shape == (32,)
    assert np.all(conv.scale.numpy() >= 0)
    given = model.get_layer("conv")
    if given.kernel_quantizer is not None and not given.use_bias:
        # Negative gains turn the kernel.
        signs = np.where(given.kernel < 0, -1, 1) * np.where(gain < 0, -1, 1)
        assert_array_equal(np.where(gain == 0, 1, conv.kernel * signs), 1)
        assert_allclose(conv.scale, np.abs(gain), rtol=1e-6)


# --- Into layers after.


@pytest.mark.convert
def test_kernels_that_meet_all_of_a_map_take_any_gain_and_bias():
    """Of one file, each after an input of its own."""
    kinds = ("conv", "dense", "depthwise", "average-valid conv-32")
    inputs, ends = [keras.Input(SHAPE) for _ in kinds], []
    for x, kind in zip(inputs, kinds, strict=True):
        norm = affine(BOTH_SIGNS, f"affine{len(ends)}")
        for layer in made("tanh", norm, kind, "tanh"):
            x = layer(x)
        ends.append(x)
    model = keras.Model(inputs, ends)
    x = [images(4, SHAPE) for _ in kinds]
    new = prepared(model, x)
    content = file_of(new)
    equal(lambda x: Runner(content).outputs(x), model, x, 1e-4)
    assert not {"ADD", "SUB", "MUL"} & set(audit_bytes(content, "net").ops)


# --- Before signs.


@pytest.mark.parametrize(
    "sign, gain",
    [
        (lambda: lq.quantizers.ApproxSign(name="sign"), POSITIVE),
        (lambda: RSign(name="sign"), BOTH_SIGNS),
        (lambda: layers.Activation(lq.quantizers.SteSign(), name="sign"), BOTH_SIGNS),
    ],
)
def test_signs_as_layers_forget_them_too(sign, gain):
    conv = binary_conv(size=1, input_quantizer=None)
    assert affines(row("tanh", affine(gain), sign(), conv)) == []


@pytest.mark.parametrize(
    "changes, between",
    [({"size": 1, "strides": 2}, "average-valid"), ({"pad_values": 0.0}, "")],
)
def test_negative_gains_before_a_sign_turn_the_kernel(changes, between):
    conv = binary_conv(name="conv", **changes)
    model = row("tanh both", between, conv)
    new = prepared(model)
    assert "affine" not in names(new)
    given = np.where(model.get_layer("conv").kernel < 0, -1, 1)
    turned = given * np.sign(BOTH_SIGNS)[:, None]
    assert_array_equal(new.get_layer("conv").kernel, turned)


def test_one_negative_number_before_a_sign_turns_the_kernel():
    model = row("tanh", layers.Rescaling(-0.5, 0.1), "binary-1x1")
    assert affines(model) == []
    assert "rescaling" not in " ".join(names(prepared(model)))


def test_signs_are_compared_with_those_of_the_given_model():
    model = row("tanh both", binary_conv(size=1, name="conv"))
    new, x = prepare(model), [images(shape=SHAPE)]
    turned, given = prepared_signs(new)(x).signs, record(model, x).signs
    assert_array_equal(turned["conv"], given["conv"])
    assert compare(model, prepared_signs(new), x, 1e-6).finding == ""


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
    assert_allclose(prepare(model)(given), model(given), rtol=1e-5, atol=1e-6)
