"""Rectifiers that are operations in any case take shifts, others do not."""

import pytest
from deploy.nets import binary_conv
from deploy.prepare.affine_nets import (
    POSITIVE,
    SHAPE,
    affine,
    operations,
    prepared,
    row,
)
from larq_nobn._keras import keras
from larq_nobn.layers._inference import ShiftedReLU

_layers = keras.layers
RELUS = {
    "layer": lambda: _layers.ReLU(name="relu"),
    "function": lambda: _layers.Activation("relu", name="relu"),
}
OTHERS = {
    "bounded": lambda: _layers.ReLU(6.0, name="relu"),
    "bounded far away": lambda: _layers.ReLU(1e9, name="relu"),
    "leaky": lambda: _layers.ReLU(negative_slope=0.5, name="relu"),
    "threshold": lambda: _layers.ReLU(threshold=0.5, name="relu"),
}


def stacked(relu, read_twice=False):
    """A ReLU of a concatenation, or of a sum that a binary convolution reads too."""
    inputs = keras.Input(SHAPE)
    x = _layers.Activation("tanh")(inputs)
    join = _layers.Add() if read_twice else _layers.Concatenate()
    x = join([x, binary_conv()(x)])
    rectified = _layers.Conv2D(8, 1)(relu(x))
    ends = [rectified, binary_conv(8, 1)(x)] if read_twice else [rectified]
    y = _layers.Add()(ends) if read_twice else rectified
    return keras.Model(inputs, y)


@pytest.mark.parametrize("name", RELUS)
@pytest.mark.parametrize("read_twice", [False, True])
def test_a_relu_of_a_map_that_is_not_its_own_takes_shifts(name, read_twice):
    model = prepared(stacked(RELUS[name](), read_twice))
    assert type(model.get_layer("relu")) is ShiftedReLU


@pytest.mark.parametrize("name", OTHERS)
def test_other_relus_do_not(name):
    layer = OTHERS[name]()
    assert type(prepared(stacked(layer)).get_layer("relu")) is type(layer)


@pytest.mark.parametrize(
    "before",
    [lambda: binary_conv(), lambda: _layers.Conv2D(8, 3)],
    ids=["binary", "real-valued"],
)
def test_one_that_its_convolution_takes_in_does_not(before):
    model = row(before(), RELUS["layer"](), _layers.Conv2D(8, 1))
    assert type(prepared(model).get_layer("relu")) is _layers.ReLU


def test_an_offset_before_it_becomes_its_shift():
    rows = affine(POSITIVE), RELUS["layer"](), _layers.Conv2D(8, 1)
    new = prepared(row(_layers.Activation("tanh"), *rows))
    assert "affine" not in [layer.name for layer in new.layers]
    assert new.get_layer("relu").shift is not None


@pytest.mark.convert
def test_the_shift_and_the_relu_are_one_operation():
    rows = affine(POSITIVE), RELUS["layer"](), _layers.Conv2D(32, 1), binary_conv()
    found = operations(row(_layers.Activation("tanh"), *rows))
    assert found["ADD"] == 1
    assert not {"RELU", "MUL"} & set(found)
