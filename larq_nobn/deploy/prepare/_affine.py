"""Scales and biases per channel, on their way into what is around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._keras import keras
from ...graph import (
    _graph,
    _kinds,
    _linear,
    _operation,
    _probe,
    _signs,
    _thresholds,
)
from ...layers import _inference
from ...rewrites import _kernel_before
from ...rewrites._concatenation import affine_before_concatenation
from ...rewrites._forward import into_layers_after
from ...rewrites._into_sign import into_sign
from ...rewrites._merge import merge_affines
from ...rewrites._pools import affine_through_pool
from ...rewrites._rule import (
    Affine,
    Edit,
    NotExact,
    Refusal,
    affine_of,
    everywhere,
    is_affine,
    is_shared,
    rescaled,
    rule,
)

# Far inside float32.
_LARGEST = 2.0**40


@rule
def affine_into_binary_convolution(
    graph: _graph.Graph, call: _graph.Call
) -> Edit | None:
    """Moves an affine operation into the binary convolution that makes its input.

    Pools that let it pass follow it. A scale may be 0, but what is negative goes into
    the signs of the kernel. After a rectified convolution it ends up right after it,
    where the converter merges it.
    """
    if not is_affine(call) or is_shared(graph, call):
        return None
    affine = affine_of(call.operation)
    origin = _kernel_before.source_of(graph, call.first_input, affine)
    source, pools = origin
    if not _is_linear_binary(source) or is_shared(graph, source):
        fits = pools and (_is_linear(source) or _merges_after(source))
        return Edit(_kernel_before.before_pools(graph, call, origin)) if fits else None
    channels = call.first_input.shape[-1:]
    scale, bias = (np.broadcast_to(x, channels) for x in affine[:2])
    operation = _scaled(source.operation, scale, bias)
    chain = _kernel_before.computed(
        [source._replace(operation=operation), *pools], call.first_output
    )
    moved = {part.label: [part] for part in chain}
    return Edit(graph.with_calls({call.label: [], **moved}))


def _is_linear(call: _graph.Call) -> bool:
    """Whether a call has one kernel of numbers, and no activation."""
    kernels = _kinds.traits(call.operation.kind).kernels
    real = kernels in (_kinds.PLAIN, _kinds.DEPTHWISE)
    return real and call.layer.activation is keras.activations.linear


def _is_linear_binary(call: _graph.Call) -> bool:
    operation = call.operation
    linear = operation.argument("last") is keras.activations.linear
    return operation.kind is _inference.BinaryConvolution and linear


def _merges_after(call: _graph.Call) -> bool:
    """Whether LCE merges a scale and a bias after a rectified convolution."""
    operation = call.operation
    if operation.kind is not _inference.BinaryConvolution or np.any(
        operation.argument("offset")
    ):
        return False
    relu = operation.argument("last") is keras.activations.relu
    return relu and _linear.border_of(operation) != 0


def _scaled(
    operation: _operation.Operation, scale: np.ndarray, bias: np.ndarray
) -> _operation.Operation:
    """A linear binary convolution that computes scale * y + bias where it was y."""

    def numbers(name: str, default: float) -> np.ndarray:
        value = operation.argument(name)
        return np.asarray(default if value is None else value, np.float64)

    total = numbers("scale", 1.0) * scale
    values, offset = {}, scale * numbers("offset", 0.0) + bias
    if np.any(total < 0):
        turn = np.where(total < 0, -1.0, 1.0)
        values["kernel"] = operation.arrays["kernel"] * turn.astype(np.float32)
    return operation.replaced(values, {"scale": np.abs(total), "offset": offset})


@rule
def negative_into_signs(
    graph: _graph.Graph, call: _graph.Call
) -> Edit | Refusal | None:
    """Makes a threshold of an affine operation with some k < 0, if signs read it.

    Binary kernels after them are turned, which costs nothing; k > 0 vanishes later.
    """
    if not is_affine(call) or is_shared(graph, call):
        return None
    channels, affine = call.first_input.shape[-1:], affine_of(call.operation)
    scale, bias = (np.broadcast_to(x, channels) for x in affine[:2])
    # No threshold may leave the range of float32, as that of a scale of 0 would.
    divides = np.abs(scale) * _LARGEST > np.maximum(np.abs(bias), 1)
    if np.all(scale >= 0) or not np.all(divides):
        return None
    graph = graph.with_operation(rescaled(call.operation, scale, bias))
    return _into_signs(graph, graph.call(call.label))


def _threshold(reader: _graph.Call, affine: Affine) -> _operation.Operation | None:
    """Returns a reader's sign of k x + b, or for a negative k its opposite."""
    given = _sign_of(reader)
    if given is None:
        return None
    before, shift = given.argument("gain"), given.argument("shift")
    if before is not None:
        # Of 0 and 1, where sums that are just 0 are common.
        raise NotExact(f"some gains are negative, and {given.name!r} is an opposite")
    bias = affine.bias + (0.0 if shift is None else np.asarray(shift, np.float64))
    arguments = {
        "shift": _thresholds.threshold_of_affine(affine.scale, bias).shift(),
        "gain": affine.scale,
    }
    return _operation.Operation(given.name, _inference.ShiftedSign, None, arguments)


def _sign_of(call: _graph.Call) -> _operation.Operation | None:
    """Returns the operation of the known sign that a call is or starts with."""
    inside, operation = call.operation.argument("input_quantizer"), call.operation
    if inside is None and (sign := _signs.sign_of_layer(call.layer)) is not None:
        alone = operation.kind is keras.layers.Activation
        inside = _operation.operation_of(sign, call.name) if alone else operation
    if not isinstance(inside, _operation.Operation):
        return None
    return inside if _kinds.SIGNS.get(inside.kind) in ("zero", "shift") else None


def _with_negated_inputs(
    call: _graph.Call, negative: np.ndarray
) -> _operation.Operation:
    """Returns a binary convolution whose kernel has some input channels negated."""
    if call.operation.kind is not _inference.BinaryConvolution or _linear.border_of(
        call.operation
    ):
        raise NotExact(f"some gains are negative, and {call.described} reads the sign")
    turn = np.where(negative, -1, 1)[:, None].astype(np.float32)
    return call.operation.replaced({"kernel": call.operation.arrays["kernel"] * turn})


_into_signs = into_layers_after(
    (affine_through_pool, into_sign(_threshold, _with_negated_inputs, twice=False))
)


@rule
def clear_opposite(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Moves the threshold of an opposite sign of whole sums to between two of them.

    At the threshold itself it is -1, which no rounding must decide.
    """
    sign = _sign_of(call)
    if sign is None or is_shared(graph, call):
        return None
    gain, shift = sign.argument("gain"), sign.argument("shift")
    if gain is None or shift is None:
        return None
    step = _step_of_sums(graph, call.first_input)
    if step is None:
        return None
    clear = -_thresholds.between_steps(-np.asarray(shift, float), step, gain < 0)
    new = sign.replaced(arguments={"shift": clear})
    if call.operation.argument("input_quantizer") is not None:
        new = call.operation.replaced(arguments={"input_quantizer": new})
    return Edit(graph.with_operation(new))


def _step_of_sums(graph: _graph.Graph, edge: Any) -> np.ndarray | None:
    """The step, (C,), of which a map is whole multiples; None if that is not known.

    As the sums of a binary convolution are, also after a ReLU, a maximum and a reshape.
    """
    call = graph.producer(edge)
    if call is None:
        return None
    operation = call.operation
    if operation.kind is not _inference.BinaryConvolution:
        known = _kinds.traits(operation.kind)
        picks = known.pool in ("max", "whole max") or known.reshapes
        passes = picks or _probe.bounds_of(call) == _kinds.RECTIFIED
        step = _step_of_sums(graph, call.first_input) if passes else None
        return None if step is None else np.tile(step, edge.shape[-1] // len(step))
    rising = (keras.activations.linear, keras.activations.relu)
    whole = (_linear.border_of(operation) or 0.0) % 1 == 0
    biased = np.any(operation.argument("offset"))
    if operation.argument("last") not in rising or biased or not whole:
        return None
    scale = operation.argument("scale")
    step = np.broadcast_to(1.0 if scale is None else scale, edge.shape[-1:])
    return step if np.all(step > 0) else None


@rule
def spell_affine(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes an affine operation as the layer that files are made of."""
    if not is_affine(call):
        return None
    gain, offset, *_ = affine_of(call.operation)
    arguments = {"gain": gain, "offset": offset}
    plain = _operation.Operation(call.name, _inference.PlainAffine, None, arguments)
    return Edit(graph.with_operation(plain))


def merge(graph: _graph.Graph) -> _graph.Graph:
    """Merges affine operations in a row, each with a binary convolution or signs."""
    takers = affine_into_binary_convolution, _kernel_before.affine_into_kernel_before
    for rewrite in (
        merge_affines,
        affine_into_binary_convolution,
        affine_before_concatenation(takers),
        negative_into_signs,
    ):
        graph = everywhere(graph, rewrite)
    return graph
