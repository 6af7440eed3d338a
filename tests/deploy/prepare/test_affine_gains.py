"""Gains that kernels after ReLUs and pools hold, and those that stay."""

import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv
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
from larq_nobn.deploy.prepare._prepare import at_inference
from larq_nobn.deploy.prepare._reading import spell_affine
from larq_nobn.graph import to_keras
from larq_nobn.rewrites import everywhere, once

_layers = keras.layers
KERNELS = {
    "convolution": lambda **name: _layers.Conv2D(8, 3, padding="same", **name),
    "depthwise": lambda **name: _layers.DepthwiseConv2D(3, 2, **name),
    "dense": lambda **name: _layers.Dense(8, **name),
    "quantized": lambda **name: lq.layers.QuantConv2D(
        8, 1, kernel_quantizer="magnitude_aware_sign", **name
    ),
}
BETWEEN = {
    "relu": lambda: _layers.ReLU(),
    "activation": lambda: _layers.Activation("relu"),
    "leaky relu": lambda: _layers.LeakyReLU(0.25),
    "prelu": lambda: _layers.PReLU(alpha_initializer="normal"),
    "maximum": lambda: _layers.MaxPooling2D(3, 2, padding="same"),
    "average": lambda: _layers.AveragePooling2D(),
    "padding": lambda: _layers.ZeroPadding2D(),
}


def before(*layers):
    return row(_layers.Activation("tanh"), *layers)


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_hold_positive_gains(name):
    last = _layers.Activation("tanh", name="last")
    assert affines(before(affine(POSITIVE), KERNELS[name](), last)) == []


@pytest.mark.parametrize("name", BETWEEN)
def test_relus_and_pools_pass_positive_gains(name):
    model = before(affine(POSITIVE), BETWEEN[name](), KERNELS["convolution"]())
    assert affines(model) == []


@pytest.mark.parametrize("name", ["relu", "leaky relu", "prelu", "padding"])
def test_these_keep_the_offset_before_them(name):
    graph = at_inference(before(affine(POSITIVE), BETWEEN[name](), binary_conv()))
    graph = once(everywhere(graph, scale_into_layers_after), (spell_affine,))
    new = to_keras(graph).get_layer("affine")
    assert new.gain is None
    assert new.offset is not None


@pytest.mark.parametrize("gain", [POSITIVE, BOTH_SIGNS], ids=["positive", "both"])
def test_after_a_pool_another_gain_takes_it_whole(gain):
    second = affine(BOTH_SIGNS, "second", seed=1)
    rows = affine(gain), _layers.AveragePooling2D(), second
    new = prepared(before(*rows, _layers.Activation("tanh", name="last")))
    names = [layer.name for layer in new.layers]
    assert "affine" not in names and "second" in names


def test_after_a_flattened_map_every_position_has_its_gain():
    rows = affine(POSITIVE), _layers.ReLU(), _layers.Flatten(), _layers.Dense(5)
    assert affines(before(*rows)) == []


def test_signs_and_kernels_may_read_the_same():
    def build(gain):
        inputs = keras.Input(SHAPE)
        x = affine(gain)(_layers.Activation("tanh")(inputs))
        first, second = binary_conv(8, 1)(x), _layers.Conv2D(8, 1)(x)
        return keras.Model(inputs, _layers.Add()([first, second]))

    assert affines(build(POSITIVE)) == []
    assert affines(build(BOTH_SIGNS)) == []


ANY = {
    "a kernel": lambda: [_layers.Conv2D(8, 3)],
    "a dense kernel": lambda: [_layers.Dense(8)],
    "groups": lambda: [_layers.Conv2D(8, 1, groups=2)],
    "depthwise": lambda: [_layers.DepthwiseConv2D(3, 2)],
    "an average": lambda: [_layers.AveragePooling2D(), _layers.Conv2D(8, 1)],
}


@pytest.mark.convert
@pytest.mark.parametrize("name", ANY)
def test_kernels_that_meet_all_of_a_map_take_any_gain_and_bias(name):
    model = before(affine(BOTH_SIGNS), *ANY[name](), _layers.Activation("tanh"))
    assert not [x for x in prepared(model).layers if x.name == "affine"]
    assert not {"ADD", "SUB", "MUL"} & set(operations(model))


def test_a_transposed_kernel_takes_positive_gains():
    assert affines(before(affine(POSITIVE), _layers.Conv2DTranspose(8, 2))) == []
    kept = before(affine(BOTH_SIGNS), _layers.Conv2DTranspose(8, 2))
    assert affines(kept) == ["affine"]


STAYS = {
    "negative, and a ReLU": lambda: [
        affine(BOTH_SIGNS),
        _layers.ReLU(),
        _layers.Dense(8),
    ],
    "negative, and a border": lambda: [
        affine(BOTH_SIGNS),
        _layers.Conv2D(8, 3, padding="same"),
    ],
    "negative, a maximum and a gain": lambda: [
        affine(BOTH_SIGNS),
        _layers.MaxPooling2D(),
        affine(-POSITIVE, "other"),
    ],
    "bounded": lambda: [affine(POSITIVE), _layers.ReLU(6.0), _layers.Dense(8)],
    "ones at the border": lambda: [
        affine(POSITIVE),
        lq.layers.QuantConv2D(8, 3, padding="same", pad_values=1.0),
    ],
    "ones at the border after an average": lambda: [
        affine(POSITIVE),
        _layers.AveragePooling2D(),
        lq.layers.QuantDepthwiseConv2D(3, padding="same", pad_values=1.0),
    ],
}


@pytest.mark.parametrize("name", STAYS)
def test_these_stay(name):
    assert "affine" in affines(before(*STAYS[name]()))


def test_a_shared_kernel_keeps_its_weights():
    conv = _layers.Conv2D(32, 1, name="conv")
    assert affines(before(affine(POSITIVE), conv, _layers.ReLU(), conv)) == ["affine"]


@pytest.mark.convert
def test_before_a_relu_one_addition_is_left():
    rows = affine(POSITIVE), _layers.ReLU(), _layers.Conv2D(32, 1), binary_conv()
    found = operations(before(*rows))
    assert "MUL" not in found
    assert found["ADD"] == 1


def test_positive_gains_of_many_layers_leave_in_one_pass():
    rows = []
    for i in range(3):
        rows += [affine(POSITIVE, f"affine{i}", seed=i), _layers.ReLU()]
    model = before(*rows, _layers.Dense(4))
    assert affines(model) == []
    assert np.all([x.gain is None for x in prepared(model).layers if "aff" in x.name])
