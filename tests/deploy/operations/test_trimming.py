"""Zeros around a map that strided convolutions read in part."""

import pytest
from deploy.nets import binary_conv, head, scrambled
from deploy.operations.programs import nodes_of, program_of
from deploy.sides import beside, compared
from larq_nobn._keras import keras
from larq_nobn.deploy.operations._kinds import Pad

layers = keras.layers


def strided(kind, size, padding, kernel, strides, several=False):
    """A padded map before a strided convolution, or of two."""
    inputs = keras.Input((size, size, 3))
    x = layers.ZeroPadding2D(padding, name="pad")(inputs)
    arguments = {"strides": strides, "name": "conv"}
    conv = kind(kernel, **arguments) if "Depth" in kind.__name__ else None
    y = (conv or kind(8, kernel, **arguments))(x)
    if several:
        other = layers.Conv2D(y.shape[-1], kernel, strides=strides, name="other")(x)
        y = layers.add([y, other])
    x = binary_conv(8)(y)
    for layer in head():
        x = layer(x)
    return scrambled(keras.Model(inputs, x))


@pytest.mark.convert
def test_strided_convolutions_of_padded_maps(tmp_path):
    networks = [
        strided(layers.Conv2D, 8, 1, 3, 2),
        strided(layers.Conv2D, 8, ((1, 1), (0, 1)), 3, 2),
        strided(layers.DepthwiseConv2D, 8, 1, 3, 2),
        strided(layers.Conv2D, 8, 1, 3, 2, several=True),
    ]
    report, _ = compared(beside(networks), tmp_path)
    assert report.lce_bconv2d == len(networks)
    assert report.verify["exact_share"] == 1


@pytest.mark.parametrize(
    "size, padding, kernel, strides, left",
    [
        (8, 1, 3, 2, ((1, 0), (1, 0))),  # rows 0 to 8 of 10
        (7, 1, 3, 2, ((1, 1), (1, 1))),  # all of 9
        (8, ((2, 0), (2, 0)), 3, 2, ((2, 0), (2, 0))),  # row 9 is of the map itself
        (8, 1, 3, 1, ((1, 1), (1, 1))),
    ],
)
def test_what_is_left(size, padding, kernel, strides, left):
    model = strided(layers.Conv2D, size, padding, kernel, strides)
    (pad,) = nodes_of(program_of(model), Pad, "pad")
    assert tuple(pad.sides) == ((0, 0), *left, (0, 0))


def test_transposed_convolutions_read_all_zeros():
    model = strided(layers.Conv2DTranspose, 8, 1, 3, 2)
    (pad,) = nodes_of(program_of(model), Pad, "pad")
    assert tuple(pad.sides) == ((0, 0), (1, 1), (1, 1), (0, 0))
