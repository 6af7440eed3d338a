"""Reads the operations of a graph whose layers are in their inference form.

Every layer that is a scale and a bias per channel is an affine operation there, as in
other graphs, and the sign that a layer starts with is an operation inside its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._keras import keras
from ...graph import _graph, _kinds, _linear, _operation, _probe, _signs
from ...layers import _inference
from ...rewrites._rule import Edit, affine_of, is_affine, is_shared, rule


@rule
def spell_affine(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes an affine operation as the layer that files are made of."""
    if not is_affine(call):
        return None
    gain, offset, *_ = affine_of(call.operation)
    arguments = {"gain": gain, "offset": offset}
    plain = _operation.Operation(call.name, _inference.PlainAffine, None, arguments)
    return Edit(graph.with_operation(plain))


@rule
def compare_sum_with_sign(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes the sign of a sum with a sign as a comparison.

    Larq's sign of sign(x) + y is to LCE the spelling of sign(x): see `check_signs`.
    """
    sign, source = sign_operation(call), graph.producer(call.first_input)
    if sign is None or source is None or _kinds.weights_of_sum(source) is None:
        return None
    makers = [graph.producer(edge) for edge in source.reads]
    if not any(
        _signs.sign_of_layer(maker.layer) is not None
        or _kinds.symbol_of(maker.layer) == "math.sign"
        for maker in makers
        if maker is not None
    ):
        return None
    shift, gain = (sign.argument(name) for name in ("shift", "gain"))
    arguments = {"shift": shift, "gain": gain, "compared": True}
    new = _operation.Operation(sign.name, _inference.ShiftedSign, None, arguments)
    return Edit(graph.with_operation(with_sign(call, new)))


def has_real_kernel(call: _graph.Call) -> bool:
    """Tells whether a call has one kernel, which in a prepared model is of numbers."""
    return _kinds.traits(call.operation.kind).kernels in (
        _kinds.PLAIN,
        _kinds.DEPTHWISE,
    )


def is_single(graph: _graph.Graph, call: _graph.Call) -> bool:
    """Tells whether a call is the only one of an affine operation."""
    return is_affine(call) and not is_shared(graph, call)


def scale_and_bias(call: _graph.Call) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of an affine operation, (C,) each."""
    channels = call.first_input.shape[-1:]
    affine = affine_of(call.operation)
    scale, bias = (np.broadcast_to(x, channels) for x in affine[:2])
    return scale, bias


def numbers(
    operation: _operation.Operation, name: str, channels: int, default: float = 0.0
) -> np.ndarray:
    """Returns a weight or an argument of an operation, (channels,), in float64."""
    value = operation.argument(name)
    value = default if value is None else np.asarray(value, np.float64)
    return np.broadcast_to(value, (channels,))


def is_linear_binary(call: _graph.Call) -> bool:
    """Tells whether a call is a binary convolution without an activation."""
    operation = call.operation
    linear = operation.argument("last") is keras.activations.linear
    return operation.kind is _inference.BinaryConvolution and linear


def merges_after(call: _graph.Call) -> bool:
    """Tells whether LCE merges a scale and a bias after a rectified convolution."""
    operation = call.operation
    if operation.kind is not _inference.BinaryConvolution or np.any(
        operation.argument("offset")
    ):
        return False
    relu = operation.argument("last") is keras.activations.relu
    return relu and _linear.border_of(operation) != 0


def sign_operation(call: _graph.Call) -> _operation.Operation | None:
    """Returns the operation of the known sign that a call is or starts with."""
    inside = call.operation.argument("input_quantizer")
    if inside is None and (sign := _signs.sign_of_layer(call.layer)) is not None:
        alone = call.operation.kind is keras.layers.Activation
        inside = _operation.operation_of(sign, call.name) if alone else call.operation
    if not isinstance(inside, _operation.Operation):
        return None
    return inside if _kinds.SIGNS.get(inside.kind) in ("zero", "shift") else None


def with_sign(call: _graph.Call, sign: _operation.Operation) -> _operation.Operation:
    """Returns the operation of a call with another sign in the place of its own."""
    if call.operation.argument("input_quantizer") is None:
        return sign
    return call.operation.replaced(arguments={"input_quantizer": sign})


def is_opposite(sign: _operation.Operation) -> Any:
    """Where a sign is the opposite of the given model's, (C,) or False."""
    gain = sign.argument("gain")
    return False if gain is None else np.asarray(gain) < 0


def step_of_sums(graph: _graph.Graph, edge: Any) -> np.ndarray | None:
    """The step, (C,), of which a map is whole multiples; None if that is not known.

    As the sums of a binary convolution are, also after a ReLU, a maximum and a reshape.
    """
    call = graph.producer(edge)
    if call is None:
        return None
    if call.operation.kind is not _inference.BinaryConvolution:
        step = step_of_sums(graph, call.first_input) if passes_sums(call) else None
        return None if step is None else np.tile(step, edge.shape[-1] // len(step))
    scale = numbers(call.operation, "scale", edge.shape[-1], 1.0)
    rising = (keras.activations.linear, keras.activations.relu)
    if call.operation.argument("last") not in rising or np.any(scale <= 0):
        return None
    biased = np.any(call.operation.argument("offset"))
    return scale if has_whole_sums(call) and not biased else None


def has_whole_sums(call: _graph.Call) -> bool:
    """Whether a binary convolution is padded with whole numbers, if at all."""
    return (_linear.border_of(call.operation) or 0.0) % 1 == 0


def passes_sums(call: _graph.Call) -> bool:
    """Whether a call returns numbers of its one input, or 0."""
    known = _kinds.traits(call.operation.kind)
    picks = known.pool in ("max", "whole max") or known.reshapes
    return (picks or _probe.bounds_of(call) == _kinds.RECTIFIED) and _kinds.commutation(
        call
    ).gain
