"""Builds the graph of a model again, from other layers."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from .._keras import keras
from ..layers import BatchKalmanNormalization
from ._graph import Call, calls


def replace_layers(
    model: keras.Model, replacement: Callable[[Call], keras.layers.Layer]
) -> keras.Model:
    """Builds the calls of inference again, with other layers.

    Keras' `clone_model` would ask for a replacement of every layer, those too that only
    training needs, and call it with all inputs.

    Arguments:
        model: A functional model of one input and one output.
        replacement: Makes the layer that replaces the one of a call; asked once for a
            layer that is used more than once.
    """
    given = model.input
    start = keras.Input(
        batch_shape=given.shape, dtype=given.dtype, name=model.input_names[0]
    )
    tensors = {str(id(given)): start}
    layers: dict[str, keras.layers.Layer] = {}
    for call in calls(model):
        if call.name not in layers:
            layers[call.name] = replacement(call)
        if isinstance(call.layer, BatchKalmanNormalization):
            found = layers[call.name](tensors[str(id(call.inputs))])
        else:
            # It takes one off each list, which is read more than once in x + x.
            ids = call.node.flat_input_ids
            arguments = {key: [tensors[key]] * len(ids) for key in ids}
            args, kwargs = call.node.map_arguments(arguments)
            found = layers[call.name](*args, **kwargs)
        # Of a state, what inference does not compute is missing in the end.
        ids = call.node.flat_output_ids
        tensors.update(zip(ids, tf.nest.flatten(found), strict=False))
    return keras.Model(start, tensors[str(id(model.output))], name=model.name)
