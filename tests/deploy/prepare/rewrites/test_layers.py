"""Binary layers of every kind that is rewritten, each against NumPy, in one file."""

import larq as lq
import numpy as np
import pytest
from deploy.prepare.rewrites.oracle import BINARY, converted, expected, side_by_side
from deploy.prepare.rewrites.oracle import examples as drawn
from larq_nobn._keras import keras
from larq_nobn.quantizers import ScaledStdSign, SignSwish
from numpy.testing import assert_allclose

pytestmark = pytest.mark.convert
AWARE = {"kernel_quantizer": "magnitude_aware_sign"}
HEAVISIDE = {"input_quantizer": "ste_heaviside"}
ZERO_ONE = {"kernel_quantizer": "ste_heaviside", "kernel_constraint": None}
SHIFTED = {"input_quantizer": "rsign"}
PLAIN = {"use_bias": False}
FAR = keras.initializers.Constant(90)  # of more than 89, float32 can represent no exp


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
        dense(activation="relu"),
        dense(activation="softplus", bias_initializer=FAR),
        dense(**AWARE, **SHIFTED),
        dense(kernel_quantizer=ScaledStdSign(), activation="relu"),
        dense(**HEAVISIDE),
        dense(**ZERO_ONE),
        dense(**HEAVISIDE, **ZERO_ONE, activation="relu"),
    ]


def sequences():
    return [
        dense(**AWARE),
        conv1d(**AWARE),
        conv1d(strides=2, activation="relu"),
        conv1d(dilation_rate=2),
        conv1d("same", **PLAIN),
        conv1d("same", pad_values=1.0),
        conv1d("same", pad_values=-1.0, strides=2),
        conv1d("same", kernel_size=12),
        conv1d("same", groups=2),
        conv1d("same", input_quantizer=SignSwish(trainable_beta=True)),
        conv1d("causal"),
        conv1d("causal", dilation_rate=3, activation="relu", **AWARE),
        conv1d("causal", strides=2, **SHIFTED),
        conv1d("causal", groups=3, **SHIFTED),
        conv1d("causal", **HEAVISIDE),
        conv1d("causal", **ZERO_ONE),
    ]


def maps():
    return [
        dense(**SHIFTED),
        conv2d(groups=2, **PLAIN),
        conv2d(groups=3, **AWARE, **SHIFTED, activation="relu"),
        conv2d(groups=2, activation="relu", padding="valid", **HEAVISIDE),
        conv2d(groups=2, pad_values=1.0, strides=2, **ZERO_ONE),
        conv2d(pad_values=-1.0, **AWARE),
        conv2d(pad_values=0.5, **SHIFTED),
        conv2d(**HEAVISIDE),
        conv2d(strides=2, pad_values=1.0, activation="relu", **HEAVISIDE),
        conv2d(**ZERO_ONE),
        conv2d(pad_values=1.0, **HEAVISIDE, **ZERO_ONE),
        conv2d(size=9, **AWARE),
        conv2d(size=4, dilation_rate=2, activation="relu"),
    ]


def rows():
    return [conv2d(size=3, **PLAIN), conv2d(size=(5, 7), **AWARE, **SHIFTED)]


def points():
    halves = {"pad_values": 0.5, **HEAVISIDE}  # 0 as a sign, which drops out
    return [
        *(conv2d(), conv2d(size=4), conv2d(size=5, strides=2, groups=2, **AWARE)),
        *(conv2d(**halves), conv2d(size=5, **halves, **ZERO_ONE)),
        conv2d(size=2, dilation_rate=2, **AWARE),  # no tap of which meets the map
    ]


def corners():
    return [
        conv2d(size=3, **AWARE),
        conv2d(size=3, strides=2),
        conv2d(size=5, activation="relu"),
        conv2d(size=7, strides=2, **HEAVISIDE),
        conv2d(size=7, **ZERO_ONE),
    ]


def volumes():
    return [dense(**AWARE)]


@pytest.mark.parametrize(
    "shape, kinds",
    [
        ((40,), vectors),
        ((9, 6), sequences),
        ((2, 3, 4, 6), volumes),
        ((6, 5, 6), maps),
        ((1, 8, 6), rows),
        ((1, 1, 6), points),
        ((2, 2, 6), corners),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_layer_is_binary_and_computes_what_numpy_does(shape, kinds, tmp_path):
    layers = kinds()
    model = side_by_side(layers, shape)
    x = drawn(shape)
    report, found = converted(model, tmp_path, x)
    binary = sum(getattr(layer, "groups", 1) for layer in layers)
    assert report.lce_bconv2d == report.binary_layers == binary
    assert not {op["op"] for op in report.float_ops} & {"CONV_2D", "FULLY_CONNECTED"}
    names = {row["layer"] for row in report.rewritten}
    assert names == {layer.name for layer in layers}
    for layer, values in zip(layers, found, strict=True):
        wanted = expected(layer, x)
        assert np.ptp(wanted) > 0
        assert_allclose(values, wanted, atol=1e-4, err_msg=str(layer.get_config()))
