"""What the table says of each kind of layer is what the layer computes."""

from __future__ import annotations

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.graph._graph import calls
from larq_nobn.graph._kinds import (
    KINDS,
    Commutation,
    commutation,
    kernels_of,
    weights_of_sum,
)
from larq_nobn.graph._linear import linear_of
from larq_nobn.graph._operation import operation_of
from larq_nobn.graph._probe import bounds_of
from larq_nobn.layers._grouped import GroupedConv2D

layers = tf.keras.layers
LINE, MAP, BOX = (6, 4), (6, 8, 4), (6, 4, 8, 4)  # channels last
ALL = Commutation(gain=True, negative=True, shift=True)
RISING = ALL._replace(negative=False)
RECTIFIES = RISING._replace(shift=False)
BORDERS = ALL._replace(shift=False)
NOTHING = Commutation()

SINGLE = {
    **{
        f"{kind}{rank}D": (shape, {}, expected)
        for kind, expected in {
            "AveragePooling": ALL,
            "GlobalAveragePooling": ALL,
            "MaxPooling": RISING,
            "GlobalMaxPooling": RISING,
            "UpSampling": ALL,
            "Cropping": ALL,
            "ZeroPadding": BORDERS,
        }.items()
        for rank, shape in ((1, LINE), (2, MAP), (3, BOX))
    },
    "Flatten": (MAP, {}, ALL._replace(tiles=True)),
    "Reshape": (MAP, {"target_shape": (3, 16, 4)}, ALL._replace(tiles=True)),
    "ReLU": (MAP, {}, RECTIFIES),
    "LeakyReLU": (MAP, {}, RECTIFIES),
    "PReLU": (MAP, {"alpha_initializer": "glorot_uniform"}, RECTIFIES),
}
PADDED = layers.AveragePooling2D(3, padding="same")
SPECIAL = {
    "average of padded borders": (PADDED, ALL),
    "bilinear": (layers.UpSampling2D(2, interpolation="bilinear"), ALL),
    "capped": (layers.ReLU(6.0), NOTHING),
    "from a threshold on": (layers.ReLU(threshold=0.5), NOTHING),
    "identity": (layers.Activation("linear"), ALL),
    "relu": (layers.Activation("relu"), RECTIFIES),
    "tanh": (layers.Activation("tanh"), NOTHING),
    "into more": (layers.Reshape((6, 4, 8)), ALL._replace(tiles=True)),
    "into fewer": (layers.Reshape((6, 16, 2)), NOTHING),
    "permuted": (layers.Permute((3, 1, 2)), NOTHING),
    "channels first": (
        layers.GlobalAveragePooling2D(data_format="channels_first"),
        NOTHING,
    ),
    "subclass": (type("Pool", (layers.AveragePooling2D,), {})(), NOTHING),
    "unknown": (layers.Softmax(), NOTHING),
}
ROWS = {
    **{
        name: (getattr(layers, name)(**kwargs), shape, expected)
        for name, (shape, kwargs, expected) in SINGLE.items()
    },
    **{name: (layer, MAP, kind) for name, (layer, kind) in SPECIAL.items()},
}


def call_of(layer, *shapes):
    inputs = [tf.keras.Input(shape) for shape in shapes]
    outputs = layer(inputs if len(inputs) > 1 else inputs[0])
    return calls(tf.keras.Model(inputs, outputs))[-1]


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=(3, *shape)).astype(np.float32)


def holds(layer, x, k, s):
    """Whether the layer makes k y + s of k x + s where it makes y of x."""
    y = layer(x).numpy()
    expected = np.resize(k, y.shape[-1]) * y + np.resize(s, y.shape[-1])
    return np.allclose(layer(k * x + s), expected, atol=1e-5)


def test_every_kind_is_tried():
    assert {
        kind.__name__ for kind, known in KINDS.items() if known.commutation != NOTHING
    } == {*SINGLE}


@pytest.mark.parametrize("name", ROWS)
def test_commutation(name):
    layer, shape, expected = ROWS[name]
    assert commutation(call_of(layer, shape)) == expected
    x, one, none = drawn(shape), np.ones(4, np.float32), np.zeros(4, np.float32)
    k = np.array([0.0, 0.5, 1.5, 3.0], np.float32)
    s = np.array([-2.0, 1.0, 0.25, -0.5], np.float32)
    if name == "subclass":  # it might compute anything
        return
    assert holds(layer, x, k, none) == expected.gain
    assert holds(layer, x, -k, none) == (expected.gain and expected.negative)
    assert holds(layer, x, one, s) == expected.shift


@pytest.mark.parametrize(
    "join, inputs",
    [
        (layers.Add(), 3),
        (layers.Average(), 3),
        (layers.Subtract(), 2),
        (lambda pair: pair[0] - pair[1], 2),
    ],
    ids=["Add", "Average", "Subtract", "x - y"],
)
def test_weights_of_a_sum(join, inputs):
    weights = weights_of_sum(call_of(join, *[MAP] * inputs))
    tensors = [drawn(MAP, seed) for seed in range(inputs)]
    expected = sum(w * x for w, x in zip(weights, tensors, strict=True))
    np.testing.assert_allclose(join(tensors), expected, atol=1e-6)


@pytest.mark.parametrize(
    "join, inputs",
    [
        (layers.Maximum(), 2),
        (lambda pair: pair[0] * pair[1], 2),
        (lambda x: x + 3.0, 1),
    ],
    ids=["Maximum", "x * y", "x + 3"],
)
def test_what_is_no_sum(join, inputs):
    call = call_of(join, *[MAP] * inputs)
    assert weights_of_sum(call) is None
    assert commutation(call) == NOTHING


CONV = {"filters": 3, "kernel_size": 2}
KERNELS = {
    **{
        f"{of}{name}": (getattr(module, f"{of}{name}"), shape, kwargs)
        for of, module in (("", layers), ("Quant", lq.layers))
        for name, shape, kwargs in (
            ("Dense", (4,), {"units": 3}),
            ("Conv1D", LINE, CONV),
            ("Conv2D", MAP, CONV),
            ("Conv3D", BOX, CONV),
            ("DepthwiseConv2D", MAP, {"kernel_size": 2, "depth_multiplier": 2}),
            ("SeparableConv1D", LINE, CONV),
            ("SeparableConv2D", MAP, CONV),
            ("Conv2DTranspose", MAP, CONV),
            ("Conv3DTranspose", BOX, CONV),
        )
    },
    "DepthwiseConv1D": (layers.DepthwiseConv1D, LINE, {"kernel_size": 2}),
    "Conv1DTranspose": (layers.Conv1DTranspose, LINE, CONV),
    "GroupedConv2D": (GroupedConv2D, MAP, {**CONV, "filters": 6, "groups": 2}),
}


def test_every_kernel_is_tried():
    assert {kind for kind, known in KINDS.items() if known.kernels} == {
        kind for kind, _, _ in KERNELS.values()
    }


@pytest.mark.parametrize("name", KERNELS)
def test_gains_go_into_kernels_on_either_side(name):
    """Of a layer of weights, the axes of its channels are where the table says."""
    kind, shape, kwargs = KERNELS[name]
    layer = kind(**kwargs, use_bias=False)
    x = drawn(shape)
    y = layer(x).numpy()
    assert kernels_of(layer) is not None
    before = np.array([0.5, -1.0, 2.0, 3.0], np.float32)
    behind = np.linspace(-1.5, 2.5, y.shape[-1])
    expected = behind * layer(before * x).numpy()
    linear = linear_of(operation_of(layer, "layer"))
    linear = linear_of(linear.scaled_inputs(before.astype(float), np.zeros(4)))
    linear = linear_of(linear.scaled_outputs(behind, np.zeros(len(behind))))
    for attribute, value in linear.kernels.items():
        getattr(layer, attribute).assign(value)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


CLIPS = {
    "relu layer": (layers.ReLU(), True),
    "capped": (layers.ReLU(2.5), True),
    "relu6": (layers.Activation(tf.nn.relu6), True),
    "clip of the user's": (
        layers.Activation(lambda x: tf.clip_by_value(x, -0.5, 0.7)),
        True,
    ),
    "identity of the user's": (layers.Activation(lambda x: x), False),
    "steeper": (layers.Activation(lambda x: tf.clip_by_value(2 * x, -1, 1)), False),
    "leaking": (layers.ReLU(negative_slope=0.5), False),
    "tanh": (layers.Activation("tanh"), False),
    "subclass": (type("Mine", (layers.ReLU,), {})(), False),
}


@pytest.mark.parametrize("name", CLIPS)
def test_what_calls_clip_to(name):
    layer, clips = CLIPS[name]
    bounds = bounds_of(call_of(layer, MAP))
    assert (bounds is not None) == clips
    if clips:
        x = 4 * drawn(MAP)
        np.testing.assert_array_equal(layer(x), np.clip(x, *bounds))
