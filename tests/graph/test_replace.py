"""Layers of another class in the place of those of a model."""

import pytest
from larq_nobn import layers
from larq_nobn._keras import keras
from larq_nobn.graph import replace_layers


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
