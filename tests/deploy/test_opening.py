"""What counts as a binary layer, and which models have a readable graph."""

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError, binary_layers


def sign_layer():
    return lq.quantizers.SteSign(name="sign")


@pytest.mark.parametrize(
    "layers, count",
    [
        ([binary_conv], 1),
        ([binary_conv, binary_conv], 2),
        ([lambda: binary_conv(kernel_quantizer=None)], 0),
        ([lambda: binary_conv(input_quantizer=None)], 0),
        ([lambda: binary_conv(kernel_quantizer="ste_tern")], 0),
        ([lambda: binary_conv(kernel_quantizer="magnitude_aware_sign")], 1),
        ([lambda: binary_conv(kernel_quantizer=nobn.quantizers.ScaledStdSign())], 1),
        ([lambda: binary_conv(input_quantizer=nobn.quantizers.RSign())], 1),
        ([sign_layer, lambda: binary_conv(input_quantizer=None)], 1),
        (
            [
                sign_layer,
                lambda: keras.layers.Dropout(0.1),
                lambda: binary_conv(input_quantizer=None),
            ],
            1,
        ),
        (
            [
                lambda: keras.layers.Activation(lq.quantizers.SteSign()),
                lambda: ones_conv(),
            ],
            1,
        ),
        ([lambda: keras.layers.ReLU(), lambda: ones_conv()], 0),
        ([sign_layer, lambda: transposed()], 0),
    ],
)
def test_binary_layers_are_counted(layers, count):
    model = chain(*(make() for make in layers), scramble=False)
    assert len(binary_layers(model)) == count


def two_valued(shape, dtype=None):
    return np.where(np.indices(shape).sum(axis=0) % 2, 0.5, -0.5).astype(np.float32)


def ones_conv():
    """A plain Keras convolution whose kernel happens to be ±c."""
    return keras.layers.Conv2D(32, 3, kernel_initializer=two_valued, name="plain")


def transposed():
    return lq.layers.QuantConv2DTranspose(32, 3, kernel_quantizer=None)


def test_a_layer_used_twice_counts_twice():
    conv = binary_conv()
    assert binary_layers(chain(conv, conv)) == [conv.name, conv.name]


def test_a_plain_marker_is_no_sign():
    marker = lq.quantizers.NoOp(precision=1)
    model = chain(binary_conv(input_quantizer=marker))
    assert binary_layers(model) == []


def test_a_sequential_model_is_counted():
    model = keras.Sequential([keras.Input((8, 8, 3)), binary_conv(), binary_conv()])
    assert len(binary_layers(model)) == 2


class Subclassed(keras.Model):
    pass


def two_outputs():
    model = chain(binary_conv())
    return keras.Model(model.input, [model.output, model.output], name="two")


def nested():
    inner = chain(binary_conv(), name="inside")
    return keras.Sequential([keras.Input((8, 8, 3)), inner], name="outside")


def open_size():
    return chain(binary_conv(), *head(), shape=(None, None, 3), name="open")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: "model.keras", r"'model\.keras' is not a Keras model"),
        (lambda: Subclassed(name="mine"), "Model 'mine' has no layer graph"),
        (lambda: keras.Sequential(name="bare"), "Model 'bare' has no layer graph"),
        (open_size, r"Input 'input_\d+' of model 'open' has the shape \(None, None, N"),
    ],
)
def test_models_without_a_readable_graph_are_rejected(make, message):
    with pytest.raises(ConversionError, match=message):
        binary_layers(make())
