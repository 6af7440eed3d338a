"""Scales and biases per channel, on their way into what is around them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._keras import keras
from ...graph import _graph, _kinds, _linear, _operation, _probe, _thresholds
from ...layers import ChannelAffine, DynamicTanh, _inference
from ...rewrites import _kernel_before
from ...rewrites._concatenation import affine_before_concatenation
from ...rewrites._forward import into_layers_after
from ...rewrites._into_sign import into_sign, starts_with_plain_sign
from ...rewrites._kernel_after import affine_into_kernel_after
from ...rewrites._merge import merge_affines
from ...rewrites._pools import affine_through_pool
from ...rewrites._rule import (
    Affine,
    Edit,
    NotExact,
    Refusal,
    affine_of,
    affine_operation,
    everywhere,
    is_affine,
    is_shared,
    rescaled,
    rule,
)
from . import _reading
from ._moves import LARGEST

_layers = keras.layers


@rule
def constant_after_transposed(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes a constant that is added to a transposed convolution as one per channel.

    TensorFlow Lite makes it the bias of the convolution, where that has none: if it is
    a single number, the file cannot run, and x - c loses its sign.
    """
    maker = graph.producer(call.first_input)
    factors = _kinds.SUMS.get(_kinds.symbol_of(call.layer))
    if (
        factors is None
        or maker is None
        or _kinds.kernels_of(maker.layer) is not _kinds.TRANSPOSED
    ):
        return None
    constants, channels = _kinds.constants_of(call), call.first_input.shape[-1]
    if len(constants) != 1:
        return None
    constant = np.asarray(constants[0], np.float64)
    if constant.size > 1 and not constant.size == constant.shape[-1] == channels:
        return None
    first = any(x is constants[0] for x in call.node.call_args[:1])
    gain, sign = reversed(factors) if first else factors
    bias = np.broadcast_to(sign * constant.reshape(-1), channels)
    operation = affine_operation(call.name, float(gain), bias)
    changed = {
        use.label: [use._replace(node=None, operation=operation)]
        for use in graph.uses(call.name)
    }
    return Edit(graph.with_calls(changed))


@rule
def tanh_to_affine(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    r"""Before plain signs a `DynamicTanh` is affine.

    For |β| < |γ| the sign of γ tanh(α x) + β is that of γ (α x + artanh(β / γ)), and
    else that of β.
    """
    if call.operation.kind is not DynamicTanh or is_shared(graph, call):
        return None
    if not _goes_into_plain_signs(graph, call.first_output):
        return None
    arrays = call.operation.arrays
    alpha, gamma, beta = (
        arrays[name].astype(np.float64) for name in ("alpha", "gamma", "beta")
    )
    inner = np.abs(beta) < np.abs(gamma)
    ratio = np.where(inner, beta, 0.0) / np.where(inner, gamma, 1.0)
    scale = np.where(inner, gamma * alpha, 0.0)
    bias = np.where(inner, gamma * np.arctanh(ratio), beta)
    values, origins = {"gamma": scale, "beta": bias}, call.operation.origins
    affine = _operation.Operation(call.name, ChannelAffine, None, {}, values, origins)
    return Edit(graph.with_operation(affine).renewed([call.first_output]))


def _goes_into_plain_signs(graph: _graph.Graph, edge: Any) -> bool:
    if graph.is_output(edge):
        return False
    return all(
        _goes_into_plain_signs(graph, call.first_output)
        if _kinds.traits(call.operation.kind).reshapes
        else starts_with_plain_sign(call) and not _reading.has_real_kernel(call)
        for call in graph.consumers(edge)
    )


@rule
def affine_into_binary_convolution(
    graph: _graph.Graph, call: _graph.Call
) -> Edit | None:
    """Moves an affine operation into the binary convolution that makes its input.

    Pools that let it pass follow it. A scale may be 0, but what is negative goes into
    the signs of the kernel. After a rectified convolution it ends up right after it,
    where the converter merges it.
    """
    if not _reading.is_single(graph, call):
        return None
    affine = affine_of(call.operation)
    origin = _kernel_before.source_of(graph, call.first_input, affine)
    source, pools = origin
    if not _reading.is_linear_binary(source) or is_shared(graph, source):
        real = _reading.has_real_kernel(source)
        linear = real and source.layer.activation is keras.activations.linear
        fits = pools and (linear or _reading.merges_after(source))
        return Edit(_kernel_before.before_pools(graph, call, origin)) if fits else None
    operation = _scaled(source.operation, *_reading.scale_and_bias(call))
    chain = _kernel_before.computed(
        [source._replace(operation=operation), *pools], call.first_output
    )
    moved = {part.label: [part] for part in chain}
    return Edit(graph.with_calls({call.label: [], **moved}))


def _scaled(
    operation: _operation.Operation, scale: np.ndarray, bias: np.ndarray
) -> _operation.Operation:
    """A linear binary convolution that computes scale * y + bias where it was y."""
    channels = len(scale)
    total = _reading.numbers(operation, "scale", channels, 1.0) * scale
    offset = scale * _reading.numbers(operation, "offset", channels) + bias
    values = {}
    if np.any(total < 0):
        turn = np.where(total < 0, -1.0, 1.0)
        values["kernel"] = operation.arrays["kernel"] * turn.astype(np.float32)
    return operation.replaced(values, {"scale": np.abs(total), "offset": offset})


@rule
def scale_into_layers_after(
    graph: _graph.Graph, call: _graph.Call
) -> Edit | Refusal | None:
    r"""Leaves k out of k x + b where all that reads it can take it, or forgets it.

    Where all of it takes b as well, nothing is left of the layer: signs, other affine
    operations and kernels that meet all of their input everywhere do. Else, with k > 0,
    it is k (x + b / k): activations and pools pass k on to what is after them, and the
    sum stays.
    """
    if not _reading.is_single(graph, call):
        return None
    scale, bias = _reading.scale_and_bias(call)
    # No threshold may leave the range of float32, as that of a scale of 0 would.
    divides = np.abs(scale) * LARGEST > np.maximum(np.abs(bias), 1)
    if np.all(scale == 1) or not np.all(divides):
        return None
    graph = graph.with_operation(rescaled(call.operation, scale, bias))
    whole = _into_layers_after(graph, graph.call(call.label))
    if isinstance(whole, Edit) or np.any(scale < 0) or not np.any(bias):
        return whole
    total = _graph.NewEdge(call.first_output)
    first = rescaled(call.operation, np.ones_like(scale), bias / scale)
    name = f"{call.name}/scale"
    last = call.reading(call.first_input, total)._replace(
        label=name,
        name=name,
        operation=rescaled(call.operation, scale, 0.0 * bias).replaced(name=name),
    )
    parts = [call._replace(outputs=total, operation=first), last]
    return _into_layers_after(graph.with_calls({call.label: parts}), last)


def _threshold(reader: _graph.Call, affine: Affine) -> _operation.Operation | None:
    """Returns a reader's sign of k x + b, or for a negative k its opposite."""
    given = _reading.sign_operation(reader)
    if given is None:
        return None
    before, scale = given.argument("gain"), affine.scale
    if before is not None and np.any(scale < 0):
        # Of 0 and 1, where sums that are just 0 are common.
        raise NotExact(f"some gains are negative, and {given.name!r} is an opposite")
    bias = affine.bias + _reading.numbers(given, "shift", len(scale))
    arguments = {
        "shift": _thresholds.threshold_of_affine(scale, bias).shift(),
        "gain": scale if before is None else scale * before,
    }
    return _operation.Operation(given.name, _inference.ShiftedSign, None, arguments)


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


_into_layers_after = into_layers_after(
    (
        affine_through_pool,
        merge_affines,
        into_sign(_threshold, _with_negated_inputs, twice=False),
        affine_into_kernel_after,
    )
)


@rule
def bias_into_relu(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Gives a bias to a ReLU that no operation before it can take in.

    The converter makes one operation of an addition and the ReLU after it: before a
    ReLU that is an operation in any case, a bias costs nothing.
    """
    if _probe.bounds_of(call) != _kinds.RECTIFIED or is_shared(graph, call):
        return None
    edge, channels = call.first_input, call.first_input.shape[-1]
    source = graph.producer(edge)
    alone = graph.sole_consumer(edge) is not None
    shift: Any = None
    if source is not None and alone and _reading.is_single(graph, source):
        scale, shift = _reading.scale_and_bias(source)
        if np.any(scale != 1):
            return None
        graph = graph.with_calls({source.label: []})
        graph = graph.with_edge(edge, source.first_input)
    elif source is not None and alone and type(source.layer) is not _layers.Concatenate:
        return None
    shift = np.zeros(channels or 1) if shift is None else shift
    relu = _operation.Operation(
        call.name, _inference.ShiftedReLU, None, {"shift": shift}
    )
    return Edit(graph.with_operation(relu))


@rule
def drop_scale(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Leaves the scale out of a binary convolution that only plain signs read.

    It is positive, and a sign forgets it. But in steps of the scale, the sums of
    average pools round: what should be 0 is not, and its sign is noise. In steps of 1
    it is 0.
    """
    operation = call.operation
    rising = (keras.activations.linear, keras.activations.relu)
    if operation.kind is not _inference.BinaryConvolution or np.any(
        operation.argument("offset")
    ):
        return None
    scale = _reading.numbers(operation, "scale", call.first_output.shape[-1], 1.0)
    if np.all(scale == 1) or np.any(scale <= 0) or is_shared(graph, call):
        return None
    edges = _read_by_signs(graph, call.first_output)
    if operation.argument("last") not in rising or edges is None:
        return None
    changed = operation.replaced(arguments={"scale": None})
    return Edit(graph.with_operation(changed).renewed(edges))


def _read_by_signs(graph: _graph.Graph, edge: Any) -> list[Any] | None:
    """An edge and those after it, if plain signs are all that reads it in the end."""
    readers = graph.consumers(edge)
    if graph.is_output(edge) or not readers:
        return None
    edges = [edge]
    for call in readers:
        if starts_with_plain_sign(call):
            continue
        passes = len(call.reads) == 1 and _kinds.commutation(call).gain
        if not (passes or _kinds.joins_channels(call)):
            return None
        after = _read_by_signs(graph, call.first_output)
        if is_shared(graph, call) or after is None:
            return None
        edges += after
    return edges


@rule
def clear_shift(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Moves the threshold of a sign of whole sums to between two of them.

    A sum may be just the threshold, in the given model and in exact arithmetic, and
    rounding must not decide its sign. Halfway between two sums it is nothing.
    """
    sign = _reading.sign_operation(call)
    if sign is None or not np.any(sign.argument("shift")) or is_shared(graph, call):
        return None
    step = _reading.step_of_sums(graph, call.first_input)
    if step is None:
        return None
    threshold = -_reading.numbers(sign, "shift", len(step))
    shift = -_thresholds.between_steps(threshold, step, _reading.is_opposite(sign))
    new = sign.replaced(arguments={"shift": shift})
    return Edit(graph.with_operation(_reading.with_sign(call, new)))


@rule
def clear_bias(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Moves a bias of whole sums that signs alone read to between two of them.

    LCE divides bias and scale in float32 to find the sum from which on a bit is set.
    """
    if is_shared(graph, call):
        return None
    step: np.ndarray | None
    if is_affine(call):
        step = _reading.step_of_sums(graph, call.first_input)
        scale, bias = _reading.scale_and_bias(call)
    elif _reading.is_linear_binary(call):
        channels = call.first_output.shape[-1]
        step = np.ones(channels) if _reading.has_whole_sums(call) else None
        scale = _reading.numbers(call.operation, "scale", channels, 1.0)
        bias = _reading.numbers(call.operation, "offset", channels)
    else:
        return None
    if step is None or not np.any(bias) or not _is_read_by_signs(graph, call):
        return None
    threshold = _thresholds.threshold_of_affine(scale, bias)
    clear = _thresholds.between_steps(threshold.value, step, threshold.negated)
    moves = np.isfinite(clear)
    offset = np.where(moves, -scale * np.where(moves, clear, 0.0), bias)
    if is_affine(call):
        operation = rescaled(call.operation, scale, offset)
    else:
        operation = call.operation.replaced(arguments={"offset": offset})
    return Edit(graph.with_operation(operation))


def _is_read_by_signs(graph: _graph.Graph, call: _graph.Call) -> bool:
    """Whether plain signs, and no opposite ones, are all that reads sums."""
    readers = graph.consumers(call.first_output)
    if graph.is_output(call.first_output) or not readers:
        return False
    for reader in readers:
        sign = _reading.sign_operation(reader)
        if sign is None:
            through = _reading.passes_sums(reader)
            if not through or not _is_read_by_signs(graph, reader):
                return False
        elif np.any(sign.argument("shift")) or np.any(_reading.is_opposite(sign)):
            return False
    return True


def merge(graph: _graph.Graph) -> _graph.Graph:
    """Merges affine operations in a row, and each with the convolutions before it."""
    takers = affine_into_binary_convolution, _kernel_before.affine_into_kernel_before
    for rewrite in (
        tanh_to_affine,
        merge_affines,
        affine_into_binary_convolution,
        affine_before_concatenation(takers),
    ):
        graph = everywhere(graph, rewrite)
    return graph
