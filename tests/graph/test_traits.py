"""What the table says of each kind of layer is what the layer computes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.graph._graph import calls_of
from larq_nobn.graph._traits import KINDS, activation_traits, adds_up, passes

layers = tf.keras.layers
LINE, MAP, BOX = (6, 4), (6, 8, 4), (6, 4, 8, 4)  # channels last
SHAPES = {"1D": LINE, "2D": MAP, "3D": BOX}
PASSES = {
    "AveragePooling": "all",
    "GlobalAveragePooling": "all",
    "MaxPooling": "positive",
    "GlobalMaxPooling": "positive",
    "UpSampling": "all",
    "Cropping": "all",
}
SINGLE = {f"{kind}{rank}": PASSES[kind] for kind in PASSES for rank in SHAPES}
SPECIAL = {
    "average of padded borders": (layers.AveragePooling2D(3, padding="same"), "all"),
    "bilinear": (layers.UpSampling2D(2, interpolation="bilinear"), "all"),
    "resized": (layers.Resizing(3, 5), "all"),
    "resized to the nearest": (layers.Resizing(9, 5, "nearest"), "all"),
    "identity": (layers.Activation("linear"), "all"),
    "relu": (layers.Activation("relu"), ""),
    "padded": (layers.ZeroPadding2D(), ""),
    "channels first": (layers.GlobalAveragePooling2D(data_format="channels_first"), ""),
    "subclass": (type("Pool", (layers.AveragePooling2D,), {})(), ""),
    "unknown": (layers.Softmax(), ""),
}
ROWS = {
    **{
        name: (getattr(layers, name)(), SHAPES[name[-2:]], SINGLE[name])
        for name in SINGLE
    },
    **{name: (layer, MAP, expected) for name, (layer, expected) in SPECIAL.items()},
}


def call_of(layer, *shapes):
    inputs = [tf.keras.Input(shape) for shape in shapes]
    outputs = layer(inputs if len(inputs) > 1 else inputs[0])
    return calls_of(tf.keras.Model(inputs, outputs))[-1]


def drawn(shape, seed=0):
    return np.random.default_rng(seed).normal(size=(3, *shape)).astype(np.float32)


def holds(layer, x, k):
    """Whether the layer makes k y + s of k x + s where it makes y of x."""
    y, s = layer(x).numpy(), np.array([-2.0, 1.0, 0.25, -0.5], np.float32)
    expected = np.resize(k, y.shape[-1]) * y + np.resize(s, y.shape[-1])
    return np.allclose(layer(k * x + s), expected, atol=1e-5)


def test_every_kind_is_tried():
    tried = {*SINGLE, "Resizing"}
    assert {x.__name__ for x, known in KINDS.items() if known.passes} == tried


@pytest.mark.parametrize("name", ROWS)
def test_scales_and_biases_that_pass(name):
    layer, shape, expected = ROWS[name]
    assert passes(call_of(layer, shape)) == expected
    x, k = drawn(shape), np.array([0.0, 0.5, 1.5, 3.0], np.float32)
    if name == "subclass":  # it might compute anything
        return
    assert holds(layer, x, k) == (expected != "")
    assert holds(layer, x, -k) == (expected == "all")


SUMS = {
    "Add": (layers.Add(), 3, True),
    "x + y": (lambda pair: pair[0] + pair[1], 2, True),
    "Average": (layers.Average(), 3, False),
    "x - y": (lambda pair: pair[0] - pair[1], 2, False),
    "x + 3": (lambda x: x + 3.0, 1, False),
}


@pytest.mark.parametrize("name", SUMS)
def test_what_adds_up_its_inputs(name):
    join, inputs, expected = SUMS[name]
    assert adds_up(call_of(join, *[MAP] * inputs)) == expected
    tensors = [drawn(MAP, seed) for seed in range(inputs)]
    made = join(tensors if inputs > 1 else tensors[0])
    assert np.allclose(made, sum(tensors), atol=1e-6) == expected


CLIPS = {
    "relu layer": (layers.ReLU(), True),
    "capped": (layers.ReLU(2.5), True),
    "relu6": (layers.Activation(tf.nn.relu6), True),
    "identity of the user's": (layers.Activation(lambda x: x), False),
    "steeper": (layers.Activation(lambda x: tf.clip_by_value(2 * x, -1, 1)), False),
    "leaking": (layers.ReLU(negative_slope=0.5), False),
    "tanh": (layers.Activation("tanh"), False),
    "subclass": (type("Mine", (layers.ReLU,), {})(), False),
}


@pytest.mark.parametrize("name", CLIPS)
def test_what_layers_clip_to(name):
    layer, clips = CLIPS[name]
    bounds = activation_traits(layer).bounds
    assert (bounds is not None) == clips
    if clips:
        x = 4 * drawn(MAP)
        np.testing.assert_array_equal(layer(x), np.clip(x, *bounds))
