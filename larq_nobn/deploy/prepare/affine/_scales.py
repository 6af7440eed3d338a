"""Scales of binary convolutions that nothing reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...._keras import keras
from ....graph import Call, Graph, passage, sign_of
from .._inference import BinaryConvolution
from .._quantizers import SIGNS
from ._numbers import is_once

_RISING = (keras.activations.linear, keras.activations.relu)


def drop_scales(model: keras.Model) -> keras.Model:
    """Leaves the scale out of binary convolutions that only plain signs read.

    It is positive, and a sign forgets it. But in steps of the scale, sums round: those
    of average pools, and those by which LCE takes back what zeros around a map must not
    count. What should be 0 is not, and its sign is noise. In steps of 1 it is 0.

    Arguments:
        model: A prepared model, whose layers are changed in place.
    """
    graph = Graph(model)
    for call in graph.calls:
        read = is_once(call, graph) and _read_by_signs(call.outputs, graph)
        if read and _has_scale_alone(call):
            call.layer.set(1.0, 0.0)
    return model


def _has_scale_alone(call: Call) -> bool:
    layer = call.layer
    if type(layer) is not BinaryConvolution or layer.scale is None:
        return False
    plain = layer.offset is None and layer.last in _RISING
    return plain and bool(np.all(np.asarray(layer.scale) > 0))


def _read_by_signs(tensor: Any, graph: Graph) -> bool:
    """Whether plain signs are all that reads a map, behind what keeps its signs."""
    readers = graph.consumers(tensor)
    if graph.is_output(tensor) or not readers:
        return False
    return all(_is_sign(call.layer) or _hands_on(call, graph) for call in readers)


def _is_sign(layer: keras.layers.Layer) -> bool:
    sign = getattr(layer, "input_quantizer", None) or sign_of(layer)
    return type(sign) in SIGNS and getattr(sign, "shift", None) is None


def _hands_on(call: Call, graph: Graph) -> bool:
    joins = type(call.layer) is keras.layers.Concatenate
    last = joins and call.layer.axis in (-1, call.first_output.shape.rank - 1)
    passes = last or (len(call.node.keras_inputs) == 1 and passage(call).gain)
    return passes and is_once(call, graph) and _read_by_signs(call.outputs, graph)
