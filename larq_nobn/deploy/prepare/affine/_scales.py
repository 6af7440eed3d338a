"""Scales of binary convolutions that nothing reads."""

from __future__ import annotations

import numpy as np

from ...._keras import keras
from ....graph import Call, Graph
from .._inference import BinaryConvolution
from ._numbers import is_once
from ._readers import readers_of

_RISING = (keras.activations.linear, keras.activations.relu)


def drop_scales(model: keras.Model) -> keras.Model:
    """Leaves the scale out of binary convolutions that only plain signs read.

    It is positive, and a sign forgets it. At a border that is padded with zeros, LCE
    adds up what the padding must not count in steps of the scale, which rounds: a sum
    that should be 0 is not, and its sign is noise. In steps of 1 it is 0.

    Arguments:
        model: A prepared model, whose layers are changed in place.
    """
    graph = Graph(model)
    for call in graph.calls:
        if _has_scale_alone(call) and is_once(call, graph):
            readers = readers_of(call.outputs, call.outputs.shape[-1], graph)
            if readers and all(_is_plain(reader.sign) for reader in readers):
                call.layer.set(1.0, 0.0)
    return model


def _has_scale_alone(call: Call) -> bool:
    layer = call.layer
    if type(layer) is not BinaryConvolution or layer.scale is None:
        return False
    plain = layer.offset is None and layer.last in _RISING
    return plain and bool(np.all(np.asarray(layer.scale) > 0))


def _is_plain(sign: object) -> bool:
    return sign is not None and getattr(sign, "shift", None) is None
