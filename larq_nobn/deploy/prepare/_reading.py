"""What the operations of a graph are made of, once each is in its inference form.

Every layer that is a scale and a bias per channel is an affine operation there, as in
other graphs, and the sign that a layer starts with is an operation inside its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..._keras import keras
from ...graph import _graph, _kinds, _linear, _operation, _signs, _steps
from ...layers import _inference
from ...rewrites._batch_norm import steps_after as _steps_after
from ...rewrites._rule import Edit, affine_of, is_affine, is_shared, rule
from .._binary import is_zero_one


def with_steps(graph: _graph.Graph) -> _graph.Graph:
    """Returns the same graph, and which of its edges have values in steps."""
    return graph.with_facts(_steps.steps_of(graph, steps_after))


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
    sign, source = sign_in(call), graph.producer(call.first_input)
    if sign is None or source is None or _kinds.weights_of_sum(source) is None:
        return None
    makers = [graph.producer(edge) for edge in source.reads]
    if not any(maker is not None and _makes_signs(maker) for maker in makers):
        return None
    shift, gain = (sign.argument(name) for name in ("shift", "gain"))
    arguments = {"shift": shift, "gain": gain, "compared": True}
    new = _operation.Operation(sign.name, _inference.ShiftedSign, None, arguments)
    return Edit(graph.with_operation(with_sign(call, new)))


def _makes_signs(call: _graph.Call) -> bool:
    return (
        _signs.sign_of(call.layer) is not None
        or _kinds.symbol_of(call.layer) == "math.sign"
    )


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
    """The numbers of an affine operation, (C,) each."""
    channels = call.first_input.shape[-1:]
    affine = affine_of(call.operation)
    scale, bias = (np.broadcast_to(x, channels) for x in affine[:2])
    return scale, bias


def numbers(
    operation: _operation.Operation, name: str, channels: int, default: float = 0.0
) -> np.ndarray:
    """A weight or an argument of an operation, (channels,), in float64."""
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


def sign_in(call: _graph.Call) -> _operation.Operation | None:
    """The sign that a call is or starts with, if it is a known one."""
    inside = call.operation.argument("input_quantizer")
    if inside is None and (sign := _signs.sign_of(call.layer)) is not None:
        alone = call.operation.kind is keras.layers.Activation
        inside = _operation.operation_of(sign, call.name) if alone else call.operation
    if not isinstance(inside, _operation.Operation):
        return None
    return inside if _kinds.SIGNS.get(inside.kind) in ("zero", "shift") else None


def with_sign(call: _graph.Call, sign: _operation.Operation) -> _operation.Operation:
    """The operation of a call with another sign in the place of its own."""
    if call.operation.argument("input_quantizer") is None:
        return sign
    return call.operation.replaced(arguments={"input_quantizer": sign})


def is_zero_one_step(call: _graph.Call) -> bool:
    """Tells whether a call is a step that is 1 above 0, and 0 at 0."""
    sign = _signs.sign_of(call.layer)
    return sign is not None and is_zero_one(sign)


def steps_after(
    call: _graph.Call, taken: Sequence[_steps.Steps | None]
) -> _steps.Steps | None:
    """What a call makes of maps of known steps; None if that is not known."""
    operation, kind = call.operation, call.operation.kind
    if kind is _inference.BinaryConvolution:
        return _after_binary(call, taken[0])
    if kind not in (_inference.Channels, _inference.ConstantLess, _inference.PlusLast):
        return _steps_after(call, taken)
    steps = taken[0]
    if steps is None:
        return None
    if kind is _inference.Channels:
        return steps._replace(step=steps.step[operation.argument("channels")])
    if kind is _inference.ConstantLess:
        return steps.plus(operation.argument("constant"))
    return steps._replace(step=steps.step[:-1]).bounded(2 * steps.most)


def steps_of_sums(call: _graph.Call, taken: _steps.Steps | None) -> _steps.Steps | None:
    """The steps of what a binary kernel makes of a map, before scale and offset."""
    kernel = call.operation.arrays["kernel"]
    if call.operation.argument("input_quantizer") is not None:
        taken = _steps.sign_steps(kernel.shape[2])
    sums = kernel.reshape(-1, kernel.shape[-1])
    return _steps.steps_after_kernel(
        sums, taken, _linear.border_of(call.operation) or 0.0
    )


def _after_binary(call: _graph.Call, taken: _steps.Steps | None) -> _steps.Steps | None:
    steps, operation = steps_of_sums(call, taken), call.operation
    if steps is not None:
        steps = steps.times(numbers(operation, "scale", len(steps.step), 1.0))
    offset = numbers(operation, "offset", call.first_output.shape[-1])
    if steps is not None and np.any(offset):
        steps = steps.plus(offset)
    return _steps.steps_after_activation(operation.argument("last"), steps)
