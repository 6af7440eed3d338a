"""Runs the graph of a model call by call, and keeps no tensor longer than needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from .._keras import keras
from .._progress import step
from ..graph import _graph, _models


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph, computed.

    Arguments:
        parts: It, cut along the examples.
        offset: What a batch norm after each of the convolutions it comes from would
            have taken away, for one example; None for nothing.
    """

    parts: list[tf.Tensor]
    offset: tf.Tensor | None = None


Values = dict[str, Value]
Visit = Callable[[_graph.Graph, _graph.Call, Values], list[Value]]


def walk(model: keras.Model, inputs: list[Value], visit: Visit) -> list[Value]:
    """Visits the calls of a model, and of models inside it, in order.

    Arguments:
        model: A functional model.
        inputs: One value for each of its inputs.
        visit: Gets the graph, a call and the values that it reads, by id; returns what
            the call makes of them.
    """
    graph = _graph.Graph(model)
    values = {str(id(t)): v for t, v in zip(model.inputs, inputs, strict=True)}
    ends = [str(id(tensor)) for tensor in model.outputs]
    last = {key: at for at, call in enumerate(graph.calls) for key in _read_by(call)}
    last |= dict.fromkeys(ends, len(graph.calls))
    for at, call in enumerate(graph.calls):
        given = {key: values[key] for key in _read_by(call)}
        for key in given:
            if last[key] == at:
                del values[key]
        if isinstance(call.layer, keras.Model):
            args, _ = call.arguments(given)
            returned = walk(call.layer, _inputs_of_model(call.layer, args[0]), visit)
        else:
            returned = visit(graph, call, given)
        made = zip(call.node.flat_output_ids, returned, strict=True)
        values.update((key, value) for key, value in made if key in last)
        step(f"Initializing {model.name} from data", at + 1, len(graph.calls))
    return [values[key] for key in ends]


def _read_by(call: _graph.Call) -> dict[str, None]:
    return {str(id(tensor)): None for tensor in _graph.inputs_of(call.node)}


def _inputs_of_model(model: keras.Model, given: Any) -> list[Value]:
    values = model._flatten_to_reference_inputs(given)
    return [
        replace(value, parts=[_models.as_own_input(own, part) for part in value.parts])
        for own, value in zip(model.inputs, values, strict=True)
    ]


def outputs(call: _graph.Call, values: Values) -> list[list[tf.Tensor]]:
    """Makes a call at inference, part by part; for each output its parts."""
    layer = call.node.layer
    mode = {"training": False} if layer._expects_training_arg else {}
    by_part = []
    for number in range(len(next(iter(values.values())).parts)):
        tensors = {key: value.parts[number] for key, value in values.items()}
        args, kwargs = call.arguments(tensors)
        by_part.append(tf.nest.flatten(layer(*args, **{**kwargs, **mode})))
    return [list(parts) for parts in zip(*by_part, strict=True)]
