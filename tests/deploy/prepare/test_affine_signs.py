"""Gains before signs: which vanish, and which have to stay."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, images
from deploy.prepare.affine_nets import (
    BOTH_SIGNS,
    POSITIVE,
    SHAPE,
    affine,
    affines,
    operations,
    prepared,
    row,
)
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._affine import scale_into_layers_after
from larq_nobn.deploy.prepare._prepare import at_inference, prepare
from larq_nobn.deploy.verify._verify import prepared_signs
from larq_nobn.graph import compare, record
from larq_nobn.layers._inference import ShiftedSign
from numpy.testing import assert_allclose, assert_array_equal

_layers = keras.layers
SIGNS = {
    "ste": lambda: "ste_sign",
    "approximate": lambda: "approx_sign",
    "swish": lambda: "swish_sign",
    "sigmoid": lambda: nobn.quantizers.SigmoidSign(),
    "shifted": lambda: nobn.quantizers.RSign(2.0),
}
BETWEEN = {
    "nothing": lambda: [],
    "dropout": lambda: [_layers.Dropout(0.5)],
    "maximum": lambda: [_layers.MaxPooling2D(3, 2, padding="same")],
    "average": lambda: [_layers.AveragePooling2D()],
    "both": lambda: [_layers.MaxPooling2D(), _layers.AveragePooling2D()],
    "cropping": lambda: [_layers.Cropping2D()],
}


def before(*layers):
    """A map that no convolution makes, and the layers after it."""
    return row(_layers.Activation("tanh"), *layers)


def one_by_one(**changes):
    return binary_conv(size=1, **changes)


@pytest.mark.parametrize(
    "sign, conv", [*((sign, binary_conv) for sign in SIGNS), ("shifted", one_by_one)]
)
def test_positive_gains_before_a_sign_vanish(sign, conv):
    conv = conv(input_quantizer=SIGNS[sign](), name="conv")
    model = before(affine(POSITIVE), conv)
    new = prepared(model)
    assert "affine" not in [layer.name for layer in new.layers]
    assert type(new.get_layer("conv").input_quantizer) is ShiftedSign


@pytest.mark.parametrize("between", BETWEEN)
def test_they_do_so_through_pools(between):
    assert affines(before(affine(POSITIVE), *BETWEEN[between](), binary_conv())) == []


@pytest.mark.parametrize(
    "shape",
    [_layers.Flatten, lambda: _layers.Reshape((1, 1, -1))],
    ids=["flatten", "reshape"],
)
def test_they_do_so_where_maps_become_vectors(shape):
    rows = _layers.AveragePooling2D(4), affine(POSITIVE), shape()
    head = lq.layers.QuantDense(5, input_quantizer="ste_sign")
    assert affines(row(*rows, head)) == []


@pytest.mark.parametrize(
    "sign",
    [
        lambda: lq.quantizers.ApproxSign(name="sign"),
        lambda: nobn.quantizers.RSign(name="sign"),
        lambda: _layers.Activation(lq.quantizers.SteSign(), name="sign"),
    ],
)
@pytest.mark.parametrize("gain", [POSITIVE, BOTH_SIGNS], ids=["positive", "both"])
def test_signs_as_layers_forget_them_too(sign, gain):
    conv = one_by_one(input_quantizer=None)
    new = prepared(before(affine(gain), sign(), conv))
    assert "affine" not in [layer.name for layer in new.layers]
    assert type(new.get_layer("sign")) is ShiftedSign


@pytest.mark.parametrize(
    "changes, between",
    [
        ({"size": 1}, "nothing"),
        ({"size": 1, "strides": 2}, "average"),
        ({"padding": "valid"}, "nothing"),
        ({"padding": "valid"}, "average"),
        ({"pad_values": 0.0}, "nothing"),
    ],
)
def test_negative_gains_turn_the_kernel(changes, between):
    conv = binary_conv(name="conv", **changes)
    model = before(affine(BOTH_SIGNS), *BETWEEN[between](), conv)
    new = prepared(model)
    assert "affine" not in [layer.name for layer in new.layers]
    given = np.where(model.get_layer("conv").kernel < 0, -1, 1)
    turned = given * np.sign(BOTH_SIGNS)[:, None]
    assert_array_equal(new.get_layer("conv").kernel, turned)


def test_each_of_several_signs_takes_its_shift():
    def build(gain, last):
        inputs = keras.Input(SHAPE)
        x = affine(gain)(_layers.Activation("tanh")(inputs))
        rsign = nobn.quantizers.RSign()
        return keras.Model(
            inputs,
            [
                binary_conv(input_quantizer=rsign, padding="valid")(x),
                binary_conv(padding="valid")(x),
                last(x),
            ],
        )

    def left(gain, last):
        model = build(gain, last)
        new, x = prepare(model), images(shape=SHAPE)
        for y, expected in zip(new(x), model(x, training=False), strict=True):
            assert_allclose(y, expected, rtol=0, atol=1e-4)
        return "affine" in [layer.name for layer in new.layers]

    assert not left(POSITIVE, binary_conv())
    assert not left(BOTH_SIGNS, one_by_one())
    assert left(BOTH_SIGNS, binary_conv())
    assert left(POSITIVE, _layers.Activation("tanh", name="last"))


STAYS = {
    "negative, and ones at the border": lambda: [affine(BOTH_SIGNS), binary_conv()],
    "negative, and a maximum": lambda: [
        affine(BOTH_SIGNS),
        _layers.MaxPooling2D(),
        one_by_one(),
    ],
    "negative, and no binary kernel": lambda: [
        affine(BOTH_SIGNS),
        lq.layers.QuantConv2D(8, 1, input_quantizer="ste_sign"),
    ],
    "zero": lambda: [affine(POSITIVE - POSITIVE[5]), one_by_one()],
    "as good as zero": lambda: [affine(np.append(POSITIVE[1:], 1e-20)), one_by_one()],
    "no sign": lambda: [affine(POSITIVE), _layers.Activation("tanh", name="last")],
    "levels": lambda: [
        affine(POSITIVE),
        lq.layers.QuantConv2D(8, 1, input_quantizer="dorefa_quantizer"),
    ],
    "the output": lambda: [affine(POSITIVE)],
}


@pytest.mark.parametrize("name", STAYS)
def test_these_stay(name):
    assert affines(before(*STAYS[name]())) == ["affine"]


def test_shared_signs_and_gains_stay():
    conv, norm = one_by_one(name="conv"), affine(POSITIVE)
    assert affines(before(norm, conv, _layers.ReLU(), conv)) == ["affine"]
    rows = norm, one_by_one(name="a"), _layers.ReLU(), norm, one_by_one(name="b")
    assert affines(before(*rows)) == ["affine"]


def test_an_offset_alone_is_left_where_it_is():
    norm = nobn.layers.ChannelAffine(name="affine")
    model = before(norm, one_by_one())
    norm.beta.assign(POSITIVE)
    graph = at_inference(model)
    assert all(scale_into_layers_after(graph, call) is None for call in graph.calls)


def test_zero_keeps_its_sign_though_the_gain_is_negative():
    model = row(affine(BOTH_SIGNS), one_by_one(name="conv"))
    assert_array_equal(model.get_layer("affine").beta[:8], 0)
    x = np.arange(-4, 4, dtype=np.float32)[:, None] * np.ones(SHAPE, np.float32)
    assert_allclose(prepare(model)(x[None]), model(x[None], training=False), atol=1e-5)


def test_signs_are_compared_with_those_of_the_given_model():
    model = before(affine(BOTH_SIGNS), one_by_one(name="conv"))
    new, x = prepare(model), [images(shape=SHAPE)]
    turned, given = prepared_signs(new)(x).signs, record(model, x).signs
    assert_array_equal(turned["conv"], given["conv"])
    assert compare(model, prepared_signs(new), x, 1e-6).finding == ""


@pytest.mark.convert
@pytest.mark.parametrize("gain", [POSITIVE, BOTH_SIGNS], ids=["positive", "both"])
def test_one_addition_is_left(gain):
    expected = {"TANH": 1, "ADD": 1, "LceQuantize": 1, "LceBconv2d": 1}
    assert operations(before(affine(gain), one_by_one())) == expected


@pytest.mark.convert
def test_after_a_negative_gain_a_map_of_many_zeros_has_its_signs():
    """Of -g * 0 the sign is +1, like that of 0: the opposite of which is -1."""
    negative = keras.initializers.Constant(-1.0)
    norm = _layers.BatchNormalization(center=False, gamma_initializer=negative)
    counts = operations(row(_layers.ReLU(), norm, one_by_one()))
    assert counts == {"RELU": 1, "ADD": 1, "LceQuantize": 1, "LceBconv2d": 1}


@pytest.mark.convert
def test_turned_signs_are_verified(tmp_path):
    rows = affine(BOTH_SIGNS), one_by_one(), _layers.ReLU(), one_by_one()
    x = images(64, SHAPE)
    report = nobn.convert(before(*rows), tmp_path / "model.tflite", data=x)
    assert report.verify["unexplained"] == 0
    assert report.verify["prepared"]["unexplained"] == 0


@pytest.mark.parametrize("between", ("nothing", "dropout", "maximum"))
@pytest.mark.parametrize("gains", (POSITIVE, BOTH_SIGNS), ids=("positive", "both"))
def test_a_binary_layer_after_a_sign_layer_may_have_a_sign_of_its_own(gains, between):
    """It takes signs of signs, which would be opposite ones with those."""
    model = before(
        affine(gains),
        _layers.Activation(lq.quantizers.SteSign()),
        *BETWEEN[between](),
        one_by_one(name="conv"),
    )
    x = images(8, SHAPE)
    assert_array_equal(nobn.deploy.prepared(model)(x), model(x))
