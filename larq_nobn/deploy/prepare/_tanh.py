"""Before a sign, a tanh is no more than a threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._keras import keras
from ...graph import Call, Graph, replace_layers, sign_of
from ...layers import DynamicTanh
from ._inference import BinaryConvolution, PlainAffine
from ._quantizers import SIGNS

_RESHAPES = (keras.layers.Flatten, keras.layers.Reshape)


def drop_tanh(model: keras.Model) -> keras.Model:
    """Replaces each `DynamicTanh` that only plain signs read by a gain and an offset.

    For |beta| < |gamma| the sign of gamma tanh(alpha x) + beta is that of
    gamma (alpha x + artanh(beta / gamma)), and else that of beta.

    Arguments:
        model: A prepared model; its layers move into the new one.
    """
    graph = Graph(model)
    gone = {call.name for call in graph.calls if _is_threshold(call, graph)}
    if not gone:
        return model
    return replace_layers(
        model, lambda call: _affine(call.layer) if call.name in gone else call.layer
    )


def _is_threshold(call: Call, graph: Graph) -> bool:
    once = type(call.layer) is DynamicTanh and len(graph.uses(call.name)) == 1
    return once and _goes_into_signs(call.first_output, graph)


def _goes_into_signs(tensor: Any, graph: Graph) -> bool:
    if graph.is_output(tensor):
        return False
    return all(
        _goes_into_signs(call.first_output, graph)
        if type(call.layer) in _RESHAPES
        else _is_plain_sign(call)
        for call in graph.consumers(tensor)
    )


def _is_plain_sign(call: Call) -> bool:
    quantizer: Any = sign_of(call.layer)
    if type(call.layer) is BinaryConvolution:
        quantizer = call.layer.input_quantizer
    return type(quantizer) in SIGNS and getattr(quantizer, "shift", None) is None


def _affine(layer: DynamicTanh) -> PlainAffine:
    alpha, gamma, beta = (
        np.asarray(weight, np.float64)
        for weight in (layer.alpha, layer.gamma, layer.beta)
    )
    inner = np.abs(beta) < np.abs(gamma)
    ratio = np.where(inner, beta, 0.0) / np.where(inner, gamma, 1.0)
    gain = np.where(inner, gamma * alpha, 0.0)
    offset = np.where(inner, gamma * np.arctanh(ratio), beta)
    return PlainAffine(gain, offset, name=layer.name)
