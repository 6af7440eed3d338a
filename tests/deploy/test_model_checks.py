"""What LCE cannot binarize is rejected by the layer's name, before anything runs."""

import larq as lq
import pytest
from deploy.nets import binary_conv, chain, head
from larq_nobn._keras import keras
from larq_nobn.deploy import ConversionError
from larq_nobn.deploy._checks import check_model
from larq_nobn.deploy._opening import as_functional
from larq_nobn.deploy.lite import missed_reach

BINARY = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "name": "x"}
layers = lq.layers


class OwnDense(layers.QuantDense):
    """A user's layer, which might compute more than the one that it is made of."""


class OwnConv1D(layers.QuantConv1D):
    """Likewise."""


class OwnConv2D(layers.QuantConv2D):
    """Likewise."""


def own_conv(**changes):
    same = {"kernel_size": 3, "padding": "same", "pad_values": 1.0}
    return OwnConv2D(32, **{**BINARY, **same, **changes})


def small(size, conv=own_conv):
    """A zero-padded binary convolution on a size x size map."""
    return [keras.layers.AveragePooling2D(8 // size), conv(pad_values=0.0)]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([OwnDense(8, **BINARY)], "'x' is a binary OwnDense.*Reshape"),
        ([layers.QuantConv2DTranspose(8, 3, **BINARY)], "'x' is a binary QuantConv2DT"),
        (
            [
                layers.QuantDepthwiseConv2D(
                    3,
                    input_quantizer="ste_sign",
                    depthwise_quantizer="ste_sign",
                    name="x",
                )
            ],
            "'x' is a binary QuantDepthwiseConv2D",
        ),
        (
            [
                layers.QuantSeparableConv2D(
                    8,
                    3,
                    input_quantizer="ste_sign",
                    depthwise_quantizer="ste_sign",
                    name="x",
                )
            ],
            "'x' is a binary QuantSeparableConv2D",
        ),
        (
            [keras.layers.Reshape((64, 32)), OwnConv1D(8, 3, **BINARY)],
            "'x' is a binary OwnConv1D.*kernel size .1, size.",
        ),
        ([own_conv(groups=2)], "'x' is a .* in 2 groups.*a plain QuantConv2D, "),
        ([own_conv(pad_values=-1.0)], "'x' pads with -1"),
        (
            [own_conv(input_quantizer="ste_heaviside")],
            "quantizer of layer 'x' gives 0, but",
        ),
        (small(2), "'x' pads a 2x2 feature map with zeros for a 3x3 kernel"),
        (small(1), "'x' pads a 1x1 feature map with zeros for a 3x3 kernel"),
        (
            [own_conv(kernel_size=5, dilation_rate=2, pad_values=0.0)],
            "'x' pads a 8x8 feature map with zeros for a 9x9 kernel",
        ),
        (
            [
                keras.layers.Reshape((64, 32)),
                layers.QuantLocallyConnected1D(8, 3, **BINARY),
            ],
            "'x' is a binary QuantLocallyConnected1D.*kernel size .1, size.",
        ),
        ([layers.QuantLocallyConnected2D(8, 3, **BINARY)], "binary QuantLocallyConnec"),
        (
            [keras.layers.Reshape((8, 8, 32, 1)), layers.QuantConv3D(8, 3, **BINARY)],
            "'x' is a binary QuantConv3D, for which LCE has no.* Use a QuantConv2D",
        ),
        (head(), "Model 'chain' has no binary layer: it contains no QuantConv2D"),
    ],
)
def test_the_layer_and_the_remedy_are_named(rows, message):
    with pytest.raises(ConversionError, match=message):
        check_model(as_functional(chain(*rows)))


@pytest.mark.parametrize(
    "rows",
    [
        small(4),
        small(2, binary_conv),
        [layers.QuantDense(8, **BINARY)],
        [keras.layers.Reshape((64, 32)), layers.QuantConv1D(8, 3, **BINARY)],
        [binary_conv(input_quantizer="ste_heaviside", pad_values=-1.0)],
        [keras.layers.Cropping2D(((2, 3), (3, 2))), binary_conv(pad_values=0.0)],
        [keras.layers.AveragePooling2D(8), binary_conv(pad_values=1.0)],
        [keras.layers.AveragePooling2D(8), binary_conv(size=1, pad_values=0.0)],
        [binary_conv(padding="valid", pad_values=-1.0)],
        [binary_conv(), layers.QuantDense(8, kernel_quantizer="ste_sign")],
        [binary_conv(), layers.QuantDense(8, input_quantizer="ste_sign")],
        [binary_conv(), layers.QuantDepthwiseConv2D(3, input_quantizer="ste_sign")],
    ],
)
def test_what_lce_can_do_passes(rows):
    assert len(check_model(as_functional(chain(*rows)))[0]) == 1


def test_each_group_of_a_binary_convolution_counts():
    assert len(check_model(as_functional(chain(binary_conv(groups=4))))[0]) == 4


def test_channels_first_is_rejected():
    layer = binary_conv(name="x", data_format="channels_first")
    model = chain(layer, stem=False, shape=(32, 8, 8))
    with pytest.raises(ConversionError, match="'x' has data_format='channels_first'"):
        check_model(as_functional(model))


@pytest.mark.parametrize(
    "before", [[], [keras.layers.Activation(lq.quantizers.SteSign())]], ids=["own", "a"]
)
def test_channels_first_is_rejected_of_sequences(before):
    layer = layers.QuantConv1D(
        4,
        3,
        data_format="channels_first",
        input_quantizer=None if before else "ste_sign",
        kernel_quantizer="ste_sign",
        name="x",
    )
    model = chain(*before, layer, stem=False, shape=(2, 8))
    with pytest.raises(ConversionError, match="'x' has data_format='channels_first'"):
        check_model(as_functional(model))
    assert [lack.layer for lack in check_model(as_functional(model), True)[1]] == ["x"]


@pytest.mark.parametrize("wrap", [lambda x: x, keras.layers.Bidirectional])
def test_a_recurrent_layer_that_remembers_is_named(wrap):
    inputs = keras.Input(batch_shape=(1, 8, 8, 8))
    x = keras.layers.Reshape((8, -1))(binary_conv()(inputs))
    x = wrap(keras.layers.GRU(4, stateful=True, name="memory"))(x)
    message = r"layer '.*memory' \(GRU\) has stateful=True: .* stateful=False"
    with pytest.raises(ConversionError, match=message):
        check_model(as_functional(keras.Model(inputs, x)))


@pytest.mark.parametrize(
    "size, dilation, small",
    [
        ((3, 3), (1, 1), False),
        ((2, 3), (1, 1), True),
        ((5, 5), (2, 2), False),
        ((5, 4), (2, 2), True),
    ],
)
def test_a_map_is_small_where_the_kernel_reaches_beyond_it(size, dilation, small):
    assert (missed_reach(size, (3, 3), dilation) is not None) == small
