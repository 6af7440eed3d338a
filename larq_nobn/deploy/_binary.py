"""Which layers become binary convolutions, and how many each of them."""

from __future__ import annotations

from functools import partial
from typing import Any

from .._larq import lq
from ..graph import _graph, _kinds, _operation, _signs
from ..graph._probe import SignAbove

# Layers that are a 2D convolution but for the shape of their maps.
RESHAPED = (lq.layers.QuantDense, lq.layers.QuantConv1D)


def binary_parts(call: _graph.Call) -> list[str]:
    """The names of the binary convolutions that a call becomes: of groups, one each."""
    if not _signs.is_binary_convolution(call) and not is_reshaped(call):
        return []
    groups = getattr(call.layer, "groups", 1)
    if groups == 1:
        return [call.name]
    return [f"{call.name}/{i}" for i in range(1, groups + 1)]


def traced_parts(call: _graph.Call) -> list[str]:
    """Their names in a trace, which has those of layers inside wrappers."""
    inner = getattr(call.layer, "name", call.name)
    return [inner + name.removeprefix(call.name) for name in binary_parts(call)]


def is_reshaped(call: _graph.Call) -> bool:
    """Whether a call is a binary layer that a reshape makes a binary convolution."""
    layer = call.layer
    return (
        type(layer) in RESHAPED
        and None not in call.first_input.shape[1:]
        and _kinds.is_channels_last(layer)
        and sign_of_kernel_input(call) is not None
        and kernel_bits(call.operation, "kernel") == 1
        and _signs.has_binary_kernel(call.operation)
    )


def kernel_bits(operation: _operation.Operation, kernel: str) -> int:
    """Returns the precision of a kernel of an operation."""
    value = partial(_signs.quantized, operation, kernel)
    return _signs.bits_of_kernel(operation.quantizer(kernel), value)


def sign_of_kernel_input(call: _graph.Call) -> Any:
    """The quantizer that makes what meets the kernel, if it is a sign; else None.

    What a reshape makes a convolution may have its sign before another.
    """
    return _signs.sign_of_input(call, reshaped=type(call.layer) in RESHAPED)


def is_zero_one(quantizer: Any) -> bool:
    """Whether a quantizer gives 1 for positive numbers, and 0 for others."""
    return _signs.kind_of(quantizer) is lq.quantizers.SteHeaviside


def is_above(quantizer: Any) -> bool:
    """Whether a quantizer gives 1 for positive numbers, and -1 for others."""
    return _signs.kind_of(quantizer) is SignAbove
