"""Which tensors are signs: those, and only those, whose values are -1 and +1."""

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import images, scrambled
from larq_nobn._keras import keras
from larq_nobn.graph._graph import calls_of
from larq_nobn.graph._models import flat, flattened
from larq_nobn.graph._signs import has_sign_input, sign_of_layer, sign_of_tensor
from larq_nobn.layers._grouped import GroupedConv2D
from larq_nobn.quantizers import RSign

layers = keras.layers
MAP, BOX = (6, 6, 4), (4, 4, 4, 2)
SIGNS = {
    "SteSign": lq.quantizers.SteSign,
    "RSign": RSign,
    "approx_sign": lambda: lq.quantizers.approx_sign,
    "math.sign": lambda: lq.math.sign,
}


class Mine(lq.layers.QuantConv2D):
    """A user's convolution that only has other defaults."""


class Halved(lq.layers.QuantConv2D):
    """A user's convolution that does something after its activation."""

    def call(self, inputs):
        return 0.5 * super().call(inputs)


KINDS = {
    "Conv3D": (layers.Conv3D, BOX, (3, 2)),
    "SeparableConv2D": (layers.SeparableConv2D, MAP, (3, 2)),
    "QuantDense": (lq.layers.QuantDense, MAP, (3,)),
    "GroupedConv2D": (GroupedConv2D, MAP, (4, 2)),
    "a subclass": (Mine, MAP, (3, 2)),
}


def ends_in(kind, shape, arguments, sign):
    inputs = keras.Input(shape)
    layer = kind(*arguments, activation=sign, name="layer")
    return scrambled(keras.Model(inputs, layer(inputs)))


def is_signs(values):
    return set(np.unique(values)) == {-1.0, 1.0}


@pytest.mark.parametrize("name", KINDS)
def test_the_activation_of_a_layer_of_any_kind(name):
    kind, shape, arguments = KINDS[name]
    model = ends_in(kind, shape, arguments, lq.quantizers.SteSign())
    x = images(4, shape)
    assert is_signs(model(x))
    assert type(sign_of_tensor(model.output)) is lq.quantizers.SteSign
    copy = flat(model)
    assert [type(sign_of_layer(layer)) for layer in copy.layers[-2:]] == [
        type(None),
        lq.quantizers.SteSign,
    ]
    np.testing.assert_array_equal(copy(x), model(x))


@pytest.mark.parametrize("name", SIGNS)
def test_any_sign_as_an_activation(name):
    model = ends_in(layers.Conv2D, MAP, (3, 2), SIGNS[name]())
    assert is_signs(model(images(4, MAP)))
    assert sign_of_tensor(model.output) is model.get_layer("layer").activation
    copy = flattened(model)
    assert sign_of_tensor(copy.output) is not None
    assert len(copy.weights) == len(model.weights)


SAME = {
    "linear": layers.Activation("linear"),
    "Identity": layers.Identity(),
    "Dropout": layers.Dropout(0.5),
}
OTHERS = {
    "shifted": layers.Rescaling(1.0, 0.5),
    "relu": layers.ReLU(),
    "product": lambda x: 0.5 * x,
    "whole numbers": lambda x: tf.cast(x, tf.int32),
}


@pytest.mark.parametrize("name", [*SAME, *OTHERS])
def test_what_hands_signs_on(name):
    activation = len(name) % 2  # or a layer of its own
    sign, inputs = lq.quantizers.SteSign(), keras.Input(MAP)
    conv = layers.Conv2D(4, 2, activation=sign if activation else None)
    signs = conv(inputs) if activation else sign(conv(inputs))
    outputs = {**SAME, **OTHERS}[name](signs)
    model = scrambled(keras.Model(inputs, outputs))
    x = images(4, MAP)
    if name in SAME:
        assert is_signs(model(x))
        assert sign_of_tensor(outputs) is sign
    else:
        assert sign_of_tensor(outputs) is None


def test_a_subclass_may_do_something_after_its_activation():
    model = ends_in(Halved, MAP, (3, 2), lq.quantizers.SteSign())
    assert set(np.unique(model(images(4, MAP)))) == {-0.5, 0.5}
    assert sign_of_tensor(model.output) is None


def test_a_marker_hands_signs_on():
    """The input quantizer `NoOp` says what arrives, and changes nothing."""
    inputs = keras.Input(MAP)
    conv = lq.layers.QuantConv2D(4, 2, input_quantizer=lq.quantizers.NoOp(1))
    model = keras.Model(inputs, conv(lq.quantizers.SteSign()(inputs)))
    assert has_sign_input(calls_of(model)[-1])
    assert not has_sign_input(calls_of(keras.Model(inputs, conv(inputs)))[-1])
