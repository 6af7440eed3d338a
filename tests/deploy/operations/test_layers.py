"""Binary layers of every kind that is written as another, each against NumPy."""

from functools import partial

import larq_nobn as nobn
import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from deploy.nets import scrambled
from deploy.operations.oracle import BINARY, converted, examples, expected
from larq_nobn._keras import keras
from larq_nobn.quantizers import ScaledStdSign
from numpy.testing import assert_allclose

pytestmark = pytest.mark.convert
AWARE = {"kernel_quantizer": "magnitude_aware_sign"}
HEAVISIDE = {"input_quantizer": "ste_heaviside"}
ZERO_ONE = {"kernel_quantizer": "ste_heaviside", "kernel_constraint": None}
SHIFTED = {"input_quantizer": "rsign"}
PLAIN = {"use_bias": False}


def dense(**changes):
    return lq.layers.QuantDense(6, **{**BINARY, **changes})


def conv1d(padding="valid", **changes):
    options = {"kernel_size": 3, "padding": padding, **BINARY, **changes}
    return lq.layers.QuantConv1D(6, **options)


def conv2d(size=3, padding="same", **changes):
    options = {"kernel_size": size, "padding": padding, **BINARY, **changes}
    return lq.layers.QuantConv2D(6, **options)


def vectors():
    return [
        dense(**PLAIN),
        dense(**AWARE, **SHIFTED),
        dense(kernel_quantizer=ScaledStdSign(), activation="relu"),
        dense(**HEAVISIDE, **ZERO_ONE, activation="relu"),
    ]


def sequences():
    return [
        dense(**AWARE),
        conv1d(strides=2, activation="relu"),
        conv1d("same", pad_values=-1.0, strides=2),
        conv1d("causal", dilation_rate=3, activation="relu", **AWARE),
        conv1d("causal", groups=3, strides=2, **SHIFTED),
        conv1d("causal", **HEAVISIDE),
    ]


def maps():
    return [
        conv2d(groups=3, **AWARE, **SHIFTED, activation="relu"),
        conv2d(groups=2, dilation_rate=2, padding="valid", **PLAIN),
        conv2d(groups=2, activation="relu", padding="valid", **HEAVISIDE),
        conv2d(groups=2, pad_values=1.0, strides=2, **ZERO_ONE),
        conv2d(pad_values=-1.0, **AWARE),
        conv2d(pad_values=0.5, **SHIFTED),
        conv2d(pad_values=1.0, **HEAVISIDE, **ZERO_ONE),
        conv2d(size=9, **AWARE),
    ]


def rows():
    return [conv2d(size=3, **PLAIN), conv2d(size=(5, 7), **AWARE, **SHIFTED)]


def points():
    halves = {"pad_values": 0.5, **HEAVISIDE}  # 0 as a sign, which drops out
    return [
        conv2d(size=5, strides=2, groups=2, **AWARE),
        conv2d(size=5, **halves, **ZERO_ONE),
        conv2d(size=2, dilation_rate=2, **AWARE),  # no tap of which meets the map
    ]


def corners():
    return [
        conv2d(size=3, strides=2),
        conv2d(size=7, strides=2, **HEAVISIDE),
        conv2d(size=7, **ZERO_ONE),
    ]


def volumes():
    return [dense(**AWARE)]


KINDS = (
    {(40,): vectors, (9, 6): sequences},
    {(2, 3, 4, 6): volumes, (6, 5, 6): maps},
    {(1, 8, 6): rows, (1, 1, 6): points, (2, 2, 6): corners},
)


@pytest.mark.parametrize("kinds", KINDS, ids=["vectors", "maps", "small maps"])
def test_every_layer_is_binary_and_computes_what_numpy_does(kinds, tmp_path):
    """Layers of one shape read the same input of one file."""
    inputs = [keras.Input(shape) for shape in kinds]
    pairs = [
        (layer, number)
        for number, make in enumerate(kinds.values())
        for layer in make()
    ]
    ends = [layer(inputs[number]) for layer, number in pairs]
    model = scrambled(keras.Model(inputs, ends))
    x = [*map(examples, kinds)]
    report, actual = converted(model, tmp_path, x)
    binary = sum(getattr(layer, "groups", 1) for layer, _ in pairs)
    assert report.lce_bconv2d == report.binary_layers == binary
    assert not {op["op"] for op in report.float_ops} & {"CONV_2D", "FULLY_CONNECTED"}
    for (layer, number), values in zip(pairs, actual, strict=True):
        wanted = expected(layer, x[number])
        assert np.ptp(wanted) > 0
        assert_allclose(values, wanted, atol=1e-4, err_msg=str(layer.get_config()))


# --- Functions over an axis counted from the front see the shape they were made for.


def centered(x):
    return x - tf.reduce_mean(x, 1, keepdims=True)


def test_a_function_of_an_axis_sees_the_shape_of_the_model():
    """Counted from the front, as the activation of a binary layer and after one."""
    ends, inputs = [], [keras.Input((24,)), keras.Input((8, 6))]
    for x, kind in zip(inputs, (dense, partial(conv1d, groups=2)), strict=True):
        first, second = kind(activation=centered, **PLAIN), kind(**PLAIN)
        ends += [dense(**PLAIN)(first(x)), keras.layers.Activation(centered)(second(x))]
    with keras.utils.custom_object_scope({"centered": centered}):
        model = scrambled(keras.Model(inputs, ends))
        new = nobn.deploy.prepared(model)
    x = [examples(given.shape[1:]) for given in inputs]
    for actual, wanted in zip(new(x), model(x), strict=True):
        assert_allclose(actual, wanted, atol=1e-4)
