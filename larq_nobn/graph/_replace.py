"""Builds the graph of a model again, from other layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import larq as lq
import tensorflow as tf

from .._keras import keras
from ..layers import BatchKalmanNormalization
from ._calls import Call, calls, inputs_of
from ._graph import Graph
from ._training import training_position

# A layer, or layers in a row as a function; None lets the input through.
Layers = Callable[..., Any] | None
Replacement = Callable[[Call], Layers]


def to_keras(
    graph: Graph, edges: Sequence[Any] | None = None, float32: bool = False
) -> keras.Model:
    """Builds the model that a graph describes, of new layers with the graph's weights.

    Names stay, calls of one layer are calls of one layer again, and what was trainable,
    constrained or in half precision still is.

    Arguments:
        graph: A graph.
        edges: What the model returns; None for what the given model returned.
        float32: Whether all layers of the given model compute in float32.

    Raises:
        ModelError: If a layer cannot be rebuilt.
    """
    starts = inputs_like(graph.model)
    tensors = dict(zip(map(id, graph.model.inputs), starts, strict=True))
    built: dict[int, keras.layers.Layer] = {}
    # Larq leaves its scope open when a layer fails, and latent weights then read as ±1.
    with lq.context.quantized_scope(False):
        for call in graph.calls:
            operation = call.operation
            if id(operation) not in built:
                built[id(operation)] = operation.build(float32)
            given = [tensors[id(edge)] for edge in call.reads]
            if call.node is None:
                made = built[id(operation)](*given)
            else:
                old = [str(id(edge)) for edge in inputs_of(call.node)]
                by_id = dict(zip(old, given, strict=True))
                made = run_call(call, built[id(operation)], by_id)
            # Of a state, what inference does not compute is missing in the end.
            pairs = zip(
                tf.nest.flatten(call.outputs), tf.nest.flatten(made), strict=False
            )
            tensors.update((id(edge), tensor) for edge, tensor in pairs)
        for operation in {id(c.operation): c.operation for c in graph.calls}.values():
            operation.fill(built[id(operation)])
    if edges is not None:
        return keras.Model(starts, [tensors[id(edge)] for edge in edges])
    return model_like(graph.model, starts, [tensors[id(end)] for end in graph.outputs])


def replace_layers(model: keras.Model, replacement: Replacement) -> keras.Model:
    """Builds the calls of inference again, with other layers.

    Keras' `clone_model` would ask for a replacement of every layer, those too that only
    training needs, and call it with all inputs.

    Arguments:
        model: A functional model.
        replacement: Makes the layer that replaces the one of a call, or a function that
            calls several, or None to drop a layer of one input; asked once for a layer
            that is used more than once.
    """
    layers: dict[str, Layers] = {}

    def once(call: Call) -> Layers:
        if call.name not in layers:
            layers[call.name] = replacement(call)
        return layers[call.name]

    return replace_calls(model, once)


def replace_calls(model: keras.Model, replacement: Replacement) -> keras.Model:
    """Does what `replace_layers` does, but asks for every call of a layer."""
    starts = inputs_like(model)
    tensors = {
        str(id(given)): start for given, start in zip(model.inputs, starts, strict=True)
    }
    for call in calls(model):
        found = run_call(call, replacement(call), tensors)
        # Of a state, what inference does not compute is missing in the end.
        ids = call.node.flat_output_ids
        tensors.update(zip(ids, tf.nest.flatten(found), strict=False))
    return model_like(model, starts, [tensors[str(id(end))] for end in model.outputs])


def inputs_like(model: keras.Model) -> list[Any]:
    """New inputs of the shapes, types and names of a model's."""
    return [
        keras.Input(batch_shape=given.shape, dtype=given.dtype, name=name)
        for given, name in zip(model.inputs, model.input_names, strict=True)
    ]


def model_like(model: keras.Model, starts: list[Any], ends: list[Any]) -> keras.Model:
    """A model between new tensors, which takes and returns them as another does."""
    inputs = tf.nest.pack_sequence_as(model._nested_inputs, starts)
    outputs = tf.nest.pack_sequence_as(model._nested_outputs, ends)
    return keras.Model(inputs, outputs, name=model.name)


def run_call(
    call: Call,
    layer: Layers,
    tensors: dict[str, Any],
    **arguments: Any,
) -> Any:
    """Makes a call once more: of another layer, on other tensors, by id of the old."""
    if layer is None or isinstance(call.layer, BatchKalmanNormalization):
        # Not the first argument, which in 0.5 * x is a number.
        given = tensors[str(id(inputs_of(call.node)[0]))]
        return given if layer is None else layer(given)
    args, kwargs = call.arguments(tensors)
    if type(layer) is not type(call.layer):
        # A fixed `training` is for the class that it was given to.
        kwargs.pop("training", None)
        args = args[:1]
    if "training" in arguments and (place := training_position(call)) is not None:
        args = args[:place]  # a None that was given by position
    return layer(*args, **{**kwargs, **arguments})
