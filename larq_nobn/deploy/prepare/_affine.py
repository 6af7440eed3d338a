"""Scales and biases per channel, on their way into what is around them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..._keras import keras
from ...graph import _graph, _kinds, _linear, _operation, _probe, _steps, _thresholds
from ...graph._graph import chain
from ...layers import ChannelAffine, DynamicTanh, _inference
from ...rewrites import _kernel_before
from ...rewrites._concatenation import affine_before_concatenation
from ...rewrites._forward import into_layers_after
from ...rewrites._into_sign import into_sign, starts_with_plain_sign
from ...rewrites._kernel_after import affine_into_kernel_after
from ...rewrites._merge import merge_affines
from ...rewrites._pools import affine_through_pool, averages
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
# Of less, `threshold_of_affine` means 0 and which side of it.
_THRESHOLD_OF_ZERO = 1e-20


@rule
def constant_after_transposed(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Writes a constant that is added to a transposed convolution as one per channel.

    TensorFlow Lite makes it the bias of the convolution, where that has none: if it is
    a single number, the file cannot run, and x - c loses its sign.
    """
    maker, factors = (
        graph.producer(call.first_input),
        _kinds.SUMS.get(_kinds.symbol_of(call.layer)),
    )
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

    Pools that let it pass follow it, but for averages before a jump at 0: in steps of a
    scale they round. A scale may be 0, but what is negative goes into the signs of the
    kernel. After a rectified convolution it ends up right after it, where the converter
    merges it.
    """
    if not _reading.is_single(graph, call):
        return None
    affine = affine_of(call.operation)
    found = _kernel_before.source_of(graph, call.first_input, affine)
    source, pools = found
    if any(map(averages, pools)) and _steps.meets_jump(graph, call.first_output):
        return None
    if not _reading.is_linear_binary(source) or is_shared(graph, source):
        real = _reading.has_real_kernel(source)
        linear = real and source.layer.activation is keras.activations.linear
        fits = pools and (linear or _reading.merges_after(source))
        return Edit(_kernel_before.before_pools(graph, call, found)) if fits else None
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
    if np.all(scale == 1) or not _can_divide(scale, bias):
        return None
    graph = graph.with_operation(rescaled(call.operation, scale, bias))
    whole = _into_layers_after(graph, graph.call(call.label))
    if isinstance(whole, Edit) or np.any(scale < 0) or not np.any(bias):
        return whole
    sum_, ones, zeros = _graph.Value(call.first_output), np.ones_like(scale), 0.0 * bias
    first = rescaled(call.operation, ones, bias / scale)
    name = f"{call.name}/scale"
    last = call.reading(call.first_input, sum_)._replace(
        label=name,
        name=name,
        operation=rescaled(call.operation, scale, zeros).replaced(name=name),
    )
    parts = [call._replace(outputs=sum_, operation=first), last]
    return _into_layers_after(graph.with_calls({call.label: parts}), last)


def _can_divide(scale: np.ndarray, bias: np.ndarray) -> bool:
    """Whether no threshold leaves the range of float32, as that of a 0 would."""
    return bool(np.all(np.abs(scale) * LARGEST > np.maximum(np.abs(bias), 1)))


def _threshold(
    reader: _graph.Call, affine: Affine, steps: _steps.Steps | None
) -> _operation.Operation | None:
    """A reader's sign of k x + b, or for a negative k its opposite."""
    given = _reading.sign_in(reader)
    if given is None:
        return None
    before, scale = given.argument("gain"), affine.scale
    if before is not None and np.any(scale < 0):
        # Of 0 and 1, where sums that are just 0 are common.
        raise NotExact(f"some gains are negative, and {given.name!r} is an opposite")
    bias = affine.bias + _reading.numbers(given, "shift", len(scale))
    arguments = {
        "shift": _thresholds.threshold_of_affine(scale, bias, steps).shift(),
        "gain": scale if before is None else scale * before,
    }
    return _operation.Operation(given.name, _inference.ShiftedSign, None, arguments)


def _turned(call: _graph.Call, negative: np.ndarray) -> _operation.Operation:
    """The operation of a binary convolution with some input channels negated."""
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
        into_sign(_threshold, _reading.steps_after, _turned, twice=False),
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
def clear_threshold(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Moves what is added before plain signs or steps, so that no sum is 0 by design.

    Of whole numbers times a scale, plus a bias, a sum is 0 in the given model where it
    may be no more than noise here, and LCE divides the two in float32 to find the whole
    number from which on a bit is set. Halfway between two sums rounding is nothing. A
    step of 0 and 1 is 0 where the sum is: so it is 0 where the opposite sum has a +1.

    To a function that may jump at 0, a sum that is 0 remains 0: see `_exact_at_zero`.
    Where something else reads the sums beside signs, these get a shift.
    """
    before = graph.facts.get(id(call.first_input)) if call.reads else None
    if is_shared(graph, call):
        return None
    if is_affine(call):
        scale, bias = _reading.scale_and_bias(call)
    elif _reading.is_linear_binary(call):
        channels = call.first_output.shape[-1]
        scale = _reading.numbers(call.operation, "scale", channels, 1.0)
        bias = _reading.numbers(call.operation, "offset", channels)
        before = _reading.steps_of_sums(call, before)
    else:
        return None
    if before is None or np.all(scale == 1):
        return None
    edge, turn = call.first_output, 1.0
    finest = _steps.finest_at_signs(graph, edge, before, starts_with_plain_sign)
    if finest is None:
        finest = _steps.finest_at_signs(graph, edge, before, _reading.is_zero_one_step)
        turn = -1.0
    if finest is None:
        if _steps.meets_jump(graph, edge):
            return _exact_at_zero(graph, call, before, scale, bias)
        if np.any(bias):
            return _clear_of_sums(graph, call, before, scale, bias)
        if not _pads_zeros(call):
            return None
        moved = _clear_of_sums(graph, call, before, scale, bias)
        return (
            _beside_zero(graph if moved is None else moved.graph, call, scale) or moved
        )
    if not np.any(bias):
        return None
    threshold = _thresholds.threshold_of_affine(turn * scale, turn * bias, finest).value
    moves = np.isfinite(threshold)
    offset = np.where(moves, -scale * np.where(moves, threshold, 0.0), bias)
    if is_affine(call):
        operation = rescaled(call.operation, scale, offset)
    else:
        operation = call.operation.replaced(arguments={"offset": offset})
    return Edit(graph.with_operation(operation))


def _pads_zeros(call: _graph.Call) -> bool:
    """Whether LCE takes the border from sums that have their scale, which rounds."""
    return (
        call.operation.kind is _inference.BinaryConvolution
        and _linear.border_of(call.operation) == 0
    )


def _clear_of_sums(
    graph: _graph.Graph,
    call: _graph.Call,
    steps: _steps.Steps,
    scale: np.ndarray,
    bias: np.ndarray,
) -> Edit | None:
    """Shifts the signs that read scale * sum + bias, so that none is of a 0.

    What else reads it has the bias as it is.
    """
    columns, edited = np.arange(len(scale)), graph
    for reader, own, finest in _signs_after(graph, call.first_output, columns, steps):
        sign = _reading.sign_in(reader)
        assert sign is not None  # or it were not among them
        shift = _reading.numbers(sign, "shift", len(own))
        k = np.where(own < 0, 1.0, scale[own])
        b = np.where(own < 0, 0.0, bias[own]) + shift
        at, clear = (
            _thresholds.threshold_of_affine(k, b, x).value for x in (None, finest)
        )
        within = (own >= 0) & np.isfinite(at)
        # No further: what is as close to a sum, but is not one, needs no operation.
        moves = within & finest.reach(np.where(within, at, 0.0))
        if np.any(moves):
            moved = np.where(moves, shift - b - k * np.where(moves, clear, 0.0), shift)
            new = _operation.Operation(
                sign.name, _inference.ShiftedSign, None, {"shift": moved}
            )
            edited = edited.with_operation(_reading.with_sign(reader, new))
    return None if edited is graph else Edit(edited)


def _beside_zero(
    graph: _graph.Graph, call: _graph.Call, scale: np.ndarray
) -> Edit | None:
    """Makes a binary convolution add more than rounding makes of its sums that are 0.

    For the signs that read a sum of its map and others, which is 0 where all of them
    are: what is added has the sign that they are to have there. It is no operation, and
    of the largest sum no more than float32 rounds.
    """
    sides = [*_sides_after(graph, call.first_output, np.ones(len(scale)), set())]
    if not sides:
        return None
    up, down = np.any(np.sign(sides) > 0, axis=0), np.any(np.sign(sides) < 0, axis=0)
    terms = call.operation.arrays["kernel"][..., 0].size
    most = terms * np.abs(scale) * np.finfo(np.float32).eps
    offset = 2 * most * (1.0 * up - 1.0 * down)
    if not np.any(offset):
        return None
    changed = graph.call(call.label).operation.replaced(arguments={"offset": offset})
    return Edit(graph.with_operation(changed))


def _sides_after(
    graph: _graph.Graph,
    edge: Any,
    side: np.ndarray,
    seen: set[Any],
    summed: bool = False,
) -> Iterator[np.ndarray]:
    """Yields for each sign that reads sums with a map which numbers have its sign of 0.

    Arguments:
        graph: A model.
        edge: The map, or what is made of it.
        side: 1 or -1 per channel, where that rises or falls with the map; else 0.
        seen: What was looked at.
        summed: Whether it is a sum already.

    Yields:
        1 per channel for those above 0, -1 for those below; 0 where it is not known.
    """
    if (id(edge), side.tobytes(), summed) in seen:
        return
    seen.add((id(edge), side.tobytes(), summed))
    for call in graph.consumers(edge):
        weights, sign, known = (
            _kinds.weights_of_sum(call),
            _reading.sign_in(call),
            _kinds.commutation(call),
        )
        there = []
        if sign is not None:
            if summed:
                yield side * _side_of_zero(sign, len(side))
        elif weights is not None:
            pairs = zip(call.reads, weights, strict=True)
            there = [(side * np.sign(w), True) for read, w in pairs if read is edge]
        elif is_affine(call):
            k, b = _reading.scale_and_bias(call)
            there = [(side * np.where(b == 0, np.sign(k), 0.0), summed)]
        elif known.gain and known.shift and call.first_output.shape[-1] == len(side):
            there = [(side, summed)]
        for after, is_sum in there:
            yield from _sides_after(graph, call.first_output, after, seen, is_sum)


def _side_of_zero(sign: _operation.Operation, channels: int) -> np.ndarray:
    """Which numbers next to 0 have the sign that 0 has, as 1 or -1 per channel.

    0 where the threshold is another number.
    """
    gain, shift = (
        _reading.numbers(sign, "gain", channels, 1.0),
        _reading.numbers(sign, "shift", channels),
    )
    # That of an opposite sign is the least number above 0.
    side = np.where(shift < 0, -1.0, np.where(gain < 0, -1.0, 1.0))
    return np.where(np.abs(shift) < _THRESHOLD_OF_ZERO, side, 0.0)


def _signs_after(
    graph: _graph.Graph, edge: Any, columns: np.ndarray, steps: _steps.Steps
) -> Iterator[tuple[_graph.Call, np.ndarray, _steps.Steps]]:
    """Yields the signs that read a map, or values of it.

    Arguments:
        graph: A model.
        edge: The map.
        columns: For each of its channels the one of the first map that it is; -1 for
            that of another map.
        steps: Those that it has without its scale and bias.

    Yields:
        The call of each sign, and the columns and the steps of what it reads.
    """
    for call in graph.consumers(edge):
        if is_shared(graph, call):
            continue
        known, there, sign = _kinds.commutation(call), columns, _reading.sign_in(call)
        after: _steps.Steps | None = None
        if sign is not None and sign.argument("gain") is None:
            yield call, columns, steps
        elif _kinds.joins_channels(call):
            there, step = (
                np.concatenate(
                    [x if r is edge else np.full(r.shape[-1], n) for r in call.reads]
                )
                for x, n in ((columns, -1), (steps.step, 1.0))
            )
            after = steps._replace(step=step)
        elif call.operation.kind is _inference.Channels:
            after = _reading.steps_after(call, [steps])
            there = columns[call.operation.argument("channels")]
        elif known.gain and known.shift:
            after = _reading.steps_after(call, [steps])
            there = np.tile(columns, call.first_output.shape[-1] // len(columns))
        if after is not None:
            yield from _signs_after(graph, call.first_output, there, after)


def _exact_at_zero(
    graph: _graph.Graph,
    call: _graph.Call,
    steps: _steps.Steps,
    scale: np.ndarray,
    bias: np.ndarray,
) -> Edit | None:
    """Writes scale * sum + bias so that it is exactly 0 where it should be.

    As (sum - threshold) * scale, which is what a batch norm computes. Of a scale in a
    kernel LCE makes other numbers, and what is 0 is no more than noise there: so all of
    it comes after a maximum, past which LCE does not look.
    """
    moves = scale != 0
    threshold = np.where(moves, -bias / np.where(moves, scale, 1.0), 0.0)
    if not np.any(moves & steps.reach(threshold)):
        return None
    value = np.round(threshold / steps.step) * steps.step
    # As one rounding takes a value to a number that is not the next one.
    same = np.abs(threshold - value) < np.finfo(np.float32).eps / 2 * np.abs(value)
    within = moves & (np.abs(threshold) <= steps.most * steps.step)
    arguments = {
        "center": np.where(within, np.where(same, value, threshold), 0.0),
        "gain": scale,
        "offset": np.where(within, 0.0, bias),
    }
    if is_affine(call):
        apart = _operation.Operation(call.name, _inference.AffineApart, None, arguments)
        return Edit(graph.with_operation(apart))
    whole = call.operation.replaced(arguments={"scale": None, "offset": None})
    after = _operation.Operation(
        f"{call.name}/scale", _inference.AffineApart, None, arguments
    )
    shape = tuple(call.first_output.shape[1:])
    first, last = chain(call, (whole, after), (shape, shape))
    last = last._replace(outputs=call.first_output)
    return Edit(graph.with_calls({call.label: [first, last]}))


def merge(graph: _graph.Graph) -> _graph.Graph:
    """Merges affine operations in a row, and each with the convolutions before it."""
    takers = affine_into_binary_convolution, _kernel_before.affine_into_kernel_before
    for each in (
        tanh_to_affine,
        merge_affines,
        affine_into_binary_convolution,
        affine_before_concatenation(takers),
    ):
        graph = everywhere(graph, each)
    return graph
