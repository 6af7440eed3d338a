"""Layers of another class in the place of those of a model."""

import numpy as np
import pytest
from larq_nobn import layers
from larq_nobn._keras import keras
from larq_nobn.graph import replace_layers
from numpy.testing import assert_array_equal


@pytest.mark.parametrize("call", [{"training": False}, {"training": True}, {}])
def test_a_layer_of_another_class_gets_no_fixed_mode(call):
    inputs = keras.Input((3,))
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Model(inputs, norm(inputs, **call))
    new = replace_layers(model, lambda call: layers.ChannelAffine(name=call.name))
    (node,) = new.get_layer("norm").inbound_nodes
    assert node.call_kwargs == {}
    assert len(new.trainable_weights) == 2


def test_positional_arguments_go_too():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs, False))
    new = replace_layers(model, lambda call: layers.ChannelAffine(name=call.name))
    (node,) = new.layers[1].inbound_nodes
    assert len(node.call_args) == 1


def test_a_layer_can_become_several():
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization(name="norm")(inputs, training=False)
    model = keras.Model(inputs, x)
    double = keras.layers.Rescaling(2.0, name="double")
    shift = keras.layers.Rescaling(1.0, 1.0, name="shift")
    new = replace_layers(model, lambda call: lambda x: shift(double(x)))
    assert [layer.name for layer in new.layers[1:]] == ["double", "shift"]
    assert_array_equal(new(np.array([[-1.0, 0.0, 1.0]])), [[-1, 1, 3]])
