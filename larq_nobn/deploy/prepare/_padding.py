"""Pads binary convolutions with ones, which their kernels know, instead of zeros."""

from __future__ import annotations

import larq as lq

from ..._keras import keras
from ...graph import Call, Graph, ModelError, is_binary_convolution, to_keras
from ...graph._replace import model_like
from .._errors import ConversionError
from .._normal import given_name
from .._opening import as_functional

# Of the same arguments, and the number that pads a map.
_WITH_VALUES = {keras.layers.Conv2D: lq.layers.QuantConv2D}


def pad_with_ones(model: keras.Model) -> tuple[keras.Model, list[str]]:
    """Copies a model with its zero-padded binary convolutions padded with ones.

    At the border of a map a kernel then meets +1 where it met 0, which is neither of
    the values that it meets inside: the copy computes something else there. Its files
    are right on maps smaller than a kernel, and bits can pass from one binary
    convolution to the next.

    Arguments:
        model: A built functional or Sequential model; it is not changed.

    Returns:
        The copy, and the names of the layers that are padded with ones.

    Raises:
        ConversionError: If the model cannot be taken apart.
    """
    graph = Graph(as_functional(model))
    padded = {call.name: call.operation for call in graph.calls if _pads(call)}
    if not padded:
        return model, []
    for operation in padded.values():
        graph = graph.with_operation(
            operation.replaced(
                arguments={"pad_values": 1.0},
                kind=_WITH_VALUES.get(operation.kind, operation.kind),
            )
        )
    try:
        copy = to_keras(graph)
    except ModelError as error:
        raise ConversionError(str(error)) from error
    named = list(dict.fromkeys(map(given_name, padded)))
    return model_like(model, copy.inputs, copy.outputs), named


def _pads(call: Call) -> bool:
    layer = call.layer
    if not is_binary_convolution(call) or layer.padding != "same":
        return False
    values = keras.backend.get_value(getattr(layer, "pad_values", 0.0))
    return layer.kernel_size != (1, 1) and not values
