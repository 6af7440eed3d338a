"""Rectifiers that are operations of their own, and then shift for nothing."""

from __future__ import annotations

from ...._keras import keras
from ....graph import Call, Graph, passage, replace_layers
from .._inference import ShiftedReLU
from ._numbers import is_affine, is_once

_layers = keras.layers


def shift_rectifiers(model: keras.Model) -> keras.Model:
    """Gives shifts to the ReLUs that no operation before them can take in.

    The converter makes one operation of an addition and the ReLU behind it: before a
    ReLU that is an operation in any case, a shift costs nothing. An offset that stands
    there is such a shift.
    """
    graph = Graph(model)
    replaced: dict[str, keras.layers.Layer | None] = {}
    for call in graph.calls:
        if not _is_relu(call) or not is_once(call, graph):
            continue
        source = graph.producer(call.inputs)
        alone = graph.sole_consumer(call.inputs) is call
        if source is not None and alone and is_affine(source, graph):
            if source.layer.gain is None:
                replaced[source.name] = None
                offset = source.layer.offset
                replaced[call.name] = ShiftedReLU(offset, name=call.name)
        elif source is None or not alone or type(source.layer) is _layers.Concatenate:
            replaced[call.name] = ShiftedReLU(None, name=call.name)
    if not replaced:
        return model
    return replace_layers(model, lambda call: replaced.get(call.name, call.layer))


def _is_relu(call: Call) -> bool:
    layer = call.layer
    if type(layer) is _layers.Activation:
        return layer.activation is keras.activations.relu
    plain = type(layer) is _layers.ReLU and passage(call).factor
    return plain and not layer.negative_slope
