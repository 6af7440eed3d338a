"""Which layers become binary convolutions, and how many each of them."""

from __future__ import annotations

from typing import Any

import larq as lq

from .._keras import keras
from ..graph import (
    TRAINING_ONLY,
    Call,
    is_binary,
    is_binary_convolution,
    is_channels_last,
    is_mask,
    sign_of,
)

_CONVOLUTIONS = (keras.layers.Conv2D, lq.layers.QuantConv2D)
# Layers that are a 2D convolution but for the shape of their maps.
RESHAPED = (lq.layers.QuantDense, lq.layers.QuantConv1D)
_RESHAPES = (keras.layers.Flatten, keras.layers.Reshape, *TRAINING_ONLY)


def binary_parts(call: Call) -> list[str]:
    """The names of the binary convolutions that a call becomes: of groups, one each."""
    if not is_binary_convolution(call) and not is_reshaped(call):
        return []
    groups = getattr(call.layer, "groups", 1)
    exact = type(call.layer) in (*_CONVOLUTIONS, *RESHAPED)
    if groups == 1 or not exact:
        return [call.name]
    return [f"{call.name}/{i}" for i in range(1, groups + 1)]


def is_reshaped(call: Call) -> bool:
    """Whether a call is a binary layer that a reshape makes a binary convolution."""
    layer = call.layer
    return (
        type(layer) in RESHAPED
        and is_binary(layer.kernel_quantizer)
        and sign_before(call) is not None
        and None not in call.first_input.shape[1:]
        and is_channels_last(layer)
    )


def is_plain(call: Call) -> bool:
    """Whether a call is a convolution of exactly Keras' class, or Larq's."""
    return type(call.layer) in _CONVOLUTIONS and is_channels_last(call.layer)


def sign_before(call: Call) -> Any:
    """The quantizer that makes what meets the kernel, if it is a sign; else None.

    It is that of the layer, or of a layer before, with nothing but reshapes between.
    Of truth values that are cast to 0 and 1, it is Larq's with these values.
    """
    own = getattr(call.layer, "input_quantizer", None)
    if own is not None:
        return own if is_binary(own) else None
    tensor = call.first_input
    while True:
        layer, index, _ = tensor._keras_history
        node = layer.inbound_nodes[index]
        if node.is_input:
            return None
        if is_mask(tensor):
            return lq.quantizers.SteHeaviside()
        if not isinstance(layer, _RESHAPES):
            return sign_of(layer)
        tensor = node.keras_inputs[0]


def is_zero_one(quantizer: Any) -> bool:
    """Whether a quantizer gives 1 for positive numbers, and 0 for others."""
    return type(quantizer) is lq.quantizers.SteHeaviside
