"""Batch norm behind layers of weights."""

import larq_nobn as nobn
import larq as lq
import pytest
from deploy.nets import binary_conv
from larq_nobn._keras import keras
from surgery.folding import BatchNorm, fold

layers = keras.layers
quantized = lq.layers

FLOAT = {
    "conv": lambda **k: layers.Conv2D(6, 3, **k),
    "without a bias": lambda **k: layers.Conv2D(6, 3, use_bias=False, **k),
    "grouped": lambda **k: layers.Conv2D(6, 3, groups=2, **k),
    "depthwise": lambda **k: layers.DepthwiseConv2D(3, depth_multiplier=3, **k),
    "separable": lambda **k: layers.SeparableConv2D(6, 3, **k),
    "transposed": lambda **k: layers.Conv2DTranspose(6, 3, **k),
    "dense": lambda **k: layers.Dense(6, **k),
    "binary input": lambda **k: quantized.QuantConv2D(
        6, 3, input_quantizer="ste_sign", **k
    ),
    "Larq's depthwise": lambda **k: quantized.QuantDepthwiseConv2D(3, **k),
}


def chain(*layers, shape=(8, 8, 4)):
    return keras.Sequential([keras.Input(shape), *layers], name="chain")


@pytest.mark.parametrize("kind", FLOAT)
def test_behind_a_float_layer(kind):
    folded, changes = fold(
        lambda: chain(FLOAT[kind](name="layer"), BatchNorm(name="norm"))
    )
    assert [layer.name for layer in folded.layers[1:]] == ["layer"]
    assert changes["norm"].action == "folded into 'layer'"


def test_behind_a_binary_convolution_gain_and_bias_stay_outside():
    folded, changes = fold(
        lambda: chain(binary_conv(6, name="conv"), BatchNorm(name="norm"))
    )
    assert isinstance(folded.get_layer("norm"), nobn.layers.ChannelAffine)
    assert changes["norm"].action == "became gain and bias behind 'conv'"
    assert changes["norm"].reason == ""
