"""Shifts before gains that are 0, negative or tiny in some of the channels."""

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import binary_conv, images
from larq_nobn._keras import keras
from larq_nobn.deploy.prepare._prepare import prepare
from numpy.testing import assert_allclose

layers = keras.layers
# What reads the map after the gain, and what it makes of it as a map again.
READERS = {
    "tanh": lambda: layers.Activation("tanh"),
    "swish": lambda: layers.Activation("swish"),
    "padded": lambda: layers.Conv2D(32, 3, padding="same"),
    "depthwise": lambda: layers.DepthwiseConv2D(3, padding="same"),
    "leaky relu": lambda: layers.LeakyReLU(),
    "prelu": lambda: layers.PReLU(alpha_initializer="normal"),
    "relu": lambda: layers.ReLU(),
    "relu6": lambda: layers.ReLU(6.0),
    "layer norm": lambda: layers.LayerNormalization(),
    "maximum": lambda: layers.MaxPooling2D(3, 1, padding="same"),
    "sign": lambda: binary_conv(),
    "shifted sign": lambda: binary_conv(input_quantizer=nobn.quantizers.RSign()),
    "average": lambda: layers.AveragePooling2D(3, 1, padding="same"),
    "multiply": lambda: lambda x: layers.Multiply()([x, x]),
    "output": lambda: lambda x: x,
}
GAINS = {
    "every other 0": np.arange(32) % 2,
    "0, negative and tiny": np.resize([0, -1, 1e-3, 1, -1e-6, 1e-12, 0.5, -1e-20], 32),
}


def network(reader, gain, offset):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    y = layers.Conv2D(32, 1)(inputs)
    scale, shift = nobn.layers.ChannelAffine(), nobn.layers.RPReLU()
    read = READERS[reader]()(scale(y))
    x = layers.Add()([read, shift(y)])
    outputs = [binary_conv(16)(x), *([read] if reader == "output" else [])]
    scale.gamma.assign(gain)
    random = np.random.default_rng(0)
    for weight in (shift.shift_in, shift.shift_out):
        weight.assign(random.normal(size=32))
    scale.beta.assign(offset * random.normal(size=32))
    return keras.Model(inputs, outputs)


def check(model):
    x = images(4, model.input_shape[1:])
    pairs = zip(*(tf.nest.flatten(f(x)) for f in (prepare(model), model)), strict=True)
    for found, expected in pairs:
        assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_the_map_gets_what_it_got(reader, gain, offset):
    check(network(reader, GAINS[gain], offset))


@pytest.mark.parametrize("gain", [np.arange(32) != 5, np.zeros(32)], ids=["one", "all"])
def test_one_gain_of_zero_is_enough(gain):
    check(network("tanh", gain, 0.0))


def test_a_threshold_far_off_drowns_no_map_that_others_read():
    """A gain that training made tiny puts the threshold of its channel at a million."""
    keras.utils.set_random_seed(0)
    inputs, scale = keras.Input((6, 6, 3)), nobn.layers.ChannelAffine()
    y = layers.Conv2D(32, 1)(inputs)
    model = keras.Model(inputs, [binary_conv(16)(scale(y)), layers.Conv2D(8, 1)(y)])
    scale.gamma.assign(np.where(np.arange(32) % 8, 1, 1e-6))
    scale.beta.assign(np.ones(32))
    check(model)
