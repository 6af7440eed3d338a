"""Scales and biases per channel, on their way into what is around them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..._keras import keras
from ...graph import (
    Call,
    Graph,
    Operation,
    Steps,
    chain,
    commutation,
    finest_at_signs,
    is_channels_last,
    is_function,
    joins_channels,
    sign_of,
    steps_of,
    symbol_of,
    threshold_of_affine,
    traits,
)
from ...layers import ChannelAffine, DynamicTanh
from ...layers._inference import (
    AffineApart,
    BinaryConvolution,
    ShiftedReLU,
    ShiftedSign,
)
from ...rewrites import (
    Edit,
    affine_before_concatenation,
    affine_into_kernel_before,
    affine_of,
    before_pools,
    computed,
    everywhere,
    is_affine,
    is_shared,
    merge_affines,
    rescaled,
    rule,
    source_of,
    steps_at,
)
from ._moves import LARGEST
from ._reading import (
    has_kernel,
    has_real_kernel,
    is_linear_binary,
    is_single,
    is_zero_one_step,
    merges_after,
    numbers,
    scale_and_bias,
    sign_in,
    starts_with_plain_sign,
    steps_after,
    steps_of_sums,
    with_sign,
)

_layers = keras.layers


@rule
def tanh_to_affine(graph: Graph, call: Call) -> Edit | None:
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
    affine = Operation(call.name, ChannelAffine, None, {}, values, origins)
    return Edit(graph.with_operation(affine).renewed([call.first_output]))


def _goes_into_plain_signs(graph: Graph, edge: Any) -> bool:
    if graph.is_output(edge):
        return False
    return all(
        _goes_into_plain_signs(graph, call.first_output)
        if traits(call.operation.kind).reshapes
        else starts_with_plain_sign(call) and not has_real_kernel(call)
        for call in graph.consumers(edge)
    )


@rule
def affine_into_binary_convolution(graph: Graph, call: Call) -> Edit | None:
    """Moves an affine operation into the binary convolution that makes its input.

    Pools that let it pass follow it, but for averages before a jump at 0: in steps of a
    scale they round. A scale may be 0, but what is negative goes into the signs of the
    kernel. After a rectified convolution it ends up right after it, where the converter
    merges it.
    """
    if not is_single(graph, call):
        return None
    affine = affine_of(call.operation)
    found = source_of(graph, call.first_input, affine)
    source, pools = found
    if any(map(_averages, pools)) and _meets_jump(graph, call.first_output):
        return None
    if not is_linear_binary(source) or is_shared(graph, source):
        real = has_real_kernel(source)
        linear = real and source.layer.activation is keras.activations.linear
        fits = pools and (linear or merges_after(source))
        return Edit(before_pools(graph, call, found)) if fits else None
    operation = _scaled(source.operation, *scale_and_bias(call))
    chain = computed([source._replace(operation=operation), *pools], call.first_output)
    moved = {part.label: [part] for part in chain}
    return Edit(graph.with_calls({call.label: [], **moved}))


def _averages(call: Call) -> bool:
    return traits(type(call.layer)).pool in ("mean", "whole mean")


def _scaled(operation: Operation, scale: np.ndarray, bias: np.ndarray) -> Operation:
    """A linear binary convolution that computes scale * y + bias where it was y."""
    channels = len(scale)
    total = numbers(operation, "scale", channels, 1.0) * scale
    offset = scale * numbers(operation, "offset", channels) + bias
    values = {}
    if np.any(total < 0):
        turn = np.where(total < 0, -1.0, 1.0)
        values["kernel"] = operation.arrays["kernel"] * turn.astype(np.float32)
    return operation.replaced(values, {"scale": np.abs(total), "offset": offset})


class Reader(NamedTuple):
    """What reads a map, or a map that is made of it.

    Attributes:
        call: Of the layer.
        sign: The sign that it is or starts with; None for none.
        between: The edges from the map on to it, but for the map.
        rising: Whether a maximum or a ReLU between stops a negative scale.
        shifts: Whether a bias passes what is between.
        steps: Those of what it reads, were it not for the scale and its bias.
    """

    call: Call
    sign: Operation | None
    between: tuple[Any, ...] = ()
    rising: bool = False
    shifts: bool = True
    steps: Steps | None = None


@rule
def scale_into_readers(graph: Graph, call: Call) -> Edit | None:
    r"""Leaves k out of k x + b where all that reads it can take it, or forgets it.

    With k > 0 it is k (x + b / k): a sign needs the sum alone, and activations and
    pools pass k on to the kernels after them. Where it is read by signs alone, or by
    other affine operations, b / k joins these, and nothing is left of the layer.

    With k < 0 signs turn into their opposites, which a ±1 kernel after them can take
    into its input channels, unless ones pad its border or a maximum is taken between.
    With k = 0 nothing of x would be left: such layers stay. So do those that something
    else reads too: the thresholds of the signs would come on top of them.
    """
    if not is_single(graph, call):
        return None
    scale, bias = scale_and_bias(call)
    if np.all(scale == 1):
        return None
    before = steps_at(graph, call.first_input, steps_after)
    readers = _readers(graph, call.first_output, len(scale), before)
    if not readers or not _can_divide(scale, bias):
        return None
    whole = all(r.shifts and _takes_bias(r) for r in readers)
    rest = np.zeros(len(scale)) if whole else bias / scale
    if before is not None and np.any(rest):
        steps = before.plus(rest)  # of what is left before the readers
        readers = _readers(graph, call.first_output, len(scale), steps) or []
    turned = [_turned_by(graph, reader) for reader in readers]
    if np.any(scale < 0) and not (whole and all(map(_takes_any, readers, turned))):
        return None
    for reader, conv in zip(readers, turned, strict=True):
        own = reader.call.operation
        times = reader.call.first_input.shape[-1] // len(scale)
        k, b = np.tile(scale, times), np.tile(bias * whole, times)
        if reader.sign is not None:
            own = with_sign(reader.call, _threshold(reader, k, b))
        elif is_affine(reader.call):
            second, more = affine_of(own)[:2]
            own = rescaled(own, second * k, second * b + more)
        else:
            name = "kernel" if "kernel" in own.arrays else "depthwise_kernel"
            # Of all kinds, the last axes are the channels that go in and come out.
            own = own.replaced({name: own.arrays[name] * k[:, None]})
        graph = graph.with_operation(own)
        if conv is not None:
            kernel = graph.uses(conv.name)[0].operation
            turn = np.sign(k)[:, None].astype(np.float32)
            graph = graph.with_operation(
                kernel.replaced({"kernel": kernel.arrays["kernel"] * turn})
            )
    edges = [edge for reader in readers for edge in reader.between]
    # What a sign makes is another sign where its kernel is turned.
    edges += [
        reader.call.first_output
        for reader, conv in zip(readers, turned, strict=True)
        if conv is not None and conv.label != reader.call.label
    ]
    if np.any(rest):
        one = rescaled(call.operation, np.ones(len(scale)), rest)
        graph = graph.with_operation(one).renewed([call.first_output, *edges])
    else:
        graph = graph.renewed(edges).with_calls({call.label: []})
        graph = graph.with_edge(call.first_output, call.first_input)
    return Edit(graph)


def _readers(
    graph: Graph, edge: Any, channels: int, steps: Steps | None
) -> list[Reader] | None:
    """Who reads a map of some channels; None unless all can take a scale per channel.

    A sign forgets it; a real-valued kernel, or another scale, is multiplied by it.
    """
    if graph.is_output(edge):
        return None
    found: list[Reader] = []
    for call in graph.consumers(edge):
        last = call.first_input.shape[-1]
        if len(call.reads) > 1 or is_shared(graph, call) or last % channels:
            return None
        known = has_kernel(call) or sign_of(call.layer) is not None
        sign = sign_in(call) if known else None
        if sign is not None or _takes_scales(call):
            found.append(Reader(call, sign, steps=steps))
            continue
        passed = commutation(call)
        if not passed.gain:
            return None
        after = _readers(graph, call.first_output, channels, steps_after(call, [steps]))
        if after is None:
            return None
        found += [
            r._replace(
                between=(call.first_output, *r.between),
                rising=r.rising or not passed.negative,
                shifts=r.shifts and passed.shift,
            )
            for r in after
        ]
    return found


def _takes_scales(call: Call) -> bool:
    """Whether the scales of its input can become part of a call that has no sign."""
    if is_affine(call):
        return True
    operation, layer = call.operation, call.layer
    inside = operation.argument("input_quantizer")
    if not has_kernel(call) or inside is not None:
        return False
    padded = getattr(layer, "padding", "valid") == "same"
    ones = padded and np.any(getattr(layer, "pad_values", 0.0))
    return is_channels_last(layer) and getattr(layer, "groups", 1) == 1 and not ones


def _can_divide(scale: np.ndarray, bias: np.ndarray) -> bool:
    """Whether no threshold leaves the range of float32, as that of a 0 would."""
    return bool(np.all(np.abs(scale) * LARGEST > np.maximum(np.abs(bias), 1)))


def _takes_bias(reader: Reader) -> bool:
    return reader.sign is not None or is_affine(reader.call)


def _takes_any(reader: Reader, turned: Call | None) -> bool:
    """Whether it takes negative scales too."""
    if reader.sign is not None and reader.sign.argument("gain") is not None:
        return False  # of 0 and 1, where sums that are just 0 are common
    return not reader.rising and (reader.sign is None or turned is not None)


def _turned_by(graph: Graph, reader: Reader) -> Call | None:
    """The one call whose kernel meets a sign, if it can take over a change of it."""
    call = reader.call
    if reader.sign is not None and not has_kernel(call):
        after = graph.sole_consumer(call.first_output)
        if after is None or after.operation.argument("input_quantizer") is not None:
            return None
        call = after
    if call.operation.kind is not BinaryConvolution:
        return None
    fits = not is_shared(graph, call) and call.layer.border() in (None, 0.0)
    return call if fits else None


def _threshold(reader: Reader, scale: np.ndarray, bias: np.ndarray) -> Operation:
    """A reader's sign of k x + b, or for a negative k its opposite."""
    given = reader.sign
    assert given is not None
    bias = bias + numbers(given, "shift", len(scale))
    before = given.argument("gain")
    arguments = {
        "shift": threshold_of_affine(scale, bias, reader.steps).shift(),
        "gain": scale if before is None else scale * before,
    }
    return Operation(given.name, ShiftedSign, None, arguments)


@rule
def bias_into_relu(graph: Graph, call: Call) -> Edit | None:
    """Gives a bias to a ReLU that no operation before it can take in.

    The converter makes one operation of an addition and the ReLU after it: before a
    ReLU that is an operation in any case, a bias costs nothing.
    """
    if not _is_relu(call) or is_shared(graph, call):
        return None
    edge, channels = call.first_input, call.first_input.shape[-1]
    source = graph.producer(edge)
    alone = graph.sole_consumer(edge) is not None
    shift: Any = None
    if source is not None and alone and is_single(graph, source):
        scale, shift = scale_and_bias(source)
        if np.any(scale != 1):
            return None
        graph = graph.with_calls({source.label: []})
        graph = graph.with_edge(edge, source.first_input)
    elif source is not None and alone and type(source.layer) is not _layers.Concatenate:
        return None
    shift = np.zeros(channels or 1) if shift is None else shift
    relu = Operation(call.name, ShiftedReLU, None, {"shift": shift})
    return Edit(graph.with_operation(relu))


def _is_relu(call: Call) -> bool:
    layer, kind = call.layer, call.operation.kind
    if kind is _layers.Activation:
        return layer.activation is keras.activations.relu
    plain = kind is _layers.ReLU and commutation(call).factor
    return plain and not layer.negative_slope


@rule
def drop_scale(graph: Graph, call: Call) -> Edit | None:
    """Leaves the scale out of a binary convolution that only plain signs read.

    It is positive, and a sign forgets it. But in steps of the scale, the sums of
    average pools round: what should be 0 is not, and its sign is noise. In steps of 1
    it is 0.
    """
    operation = call.operation
    rising = (keras.activations.linear, keras.activations.relu)
    if operation.kind is not BinaryConvolution or np.any(operation.argument("offset")):
        return None
    scale = numbers(operation, "scale", call.first_output.shape[-1], 1.0)
    if np.all(scale == 1) or np.any(scale <= 0) or is_shared(graph, call):
        return None
    edges = _read_by_signs(graph, call.first_output)
    if operation.argument("last") not in rising or edges is None:
        return None
    changed = operation.replaced(arguments={"scale": None})
    return Edit(graph.with_operation(changed).renewed(edges))


def _read_by_signs(graph: Graph, edge: Any) -> list[Any] | None:
    """An edge and those after it, if plain signs are all that reads it in the end."""
    readers = graph.consumers(edge)
    if graph.is_output(edge) or not readers:
        return None
    edges = [edge]
    for call in readers:
        if starts_with_plain_sign(call):
            continue
        passes = len(call.reads) == 1 and commutation(call).gain
        if not (passes or joins_channels(call)):
            return None
        after = _read_by_signs(graph, call.first_output)
        if is_shared(graph, call) or after is None:
            return None
        edges += after
    return edges


def clear_thresholds(graph: Graph) -> Graph:
    """Moves what is added before plain signs or steps, so that no sum is 0 by design.

    Of whole numbers times a scale, plus a bias, a sum is 0 in the given model where it
    may be no more than noise here, and LCE divides the two in float32 to find the whole
    number from which on a bit is set. Halfway between two sums rounding is nothing. A
    step of 0 and 1 is 0 where the sum is: so it is 0 where the opposite sum has a +1.

    To a function that may jump at 0, a sum that is 0 remains 0: see `_exact_at_zero`.
    """
    steps = steps_of(graph, steps_after)
    for call in graph.calls:
        before = steps.get(id(call.first_input)) if call.reads else None
        if is_shared(graph, call):
            continue
        if is_affine(call):
            scale, bias = scale_and_bias(call)
        elif is_linear_binary(call):
            channels = call.first_output.shape[-1]
            scale = numbers(call.operation, "scale", channels, 1.0)
            bias = numbers(call.operation, "offset", channels)
            before = steps_of_sums(call, before)
        else:
            continue
        if before is None or np.all(scale == 1):
            continue
        edge = call.first_output
        finest = finest_at_signs(graph, edge, before, starts_with_plain_sign)
        turn = 1.0
        if finest is None:
            finest = finest_at_signs(graph, edge, before, is_zero_one_step)
            turn = -1.0
        if finest is None:
            if _meets_jump(graph, edge):
                graph = _exact_at_zero(graph, call, before, scale, bias)
            continue
        if not np.any(bias):
            continue
        threshold = threshold_of_affine(turn * scale, turn * bias, finest).value
        moves = np.isfinite(threshold)
        moved = np.where(moves, -scale * np.where(moves, threshold, 0.0), bias)
        if is_affine(call):
            operation = rescaled(call.operation, scale, moved)
        else:
            operation = call.operation.replaced(arguments={"offset": moved})
        graph = graph.with_operation(operation)
    return graph


# The functions of TensorFlow, as they are called in a model, that jump where a number
# becomes positive, or 0.
_JUMPS = (
    *("sign", "greater", "greater_equal", "less", "less_equal", "equal", "not_equal"),
    *("eq", "ne", "cast", "floor", "ceil", "floor_div", "floormod", "count_nonzero"),
)


def _meets_jump(graph: Graph, edge: Any) -> bool:
    """Whether a function that may jump at 0 reads a map, or what functions make of it.

    What is in a Lambda is not known.
    """
    edges, seen = [edge], set[int]()
    while edges:
        for call in graph.consumers(edges.pop()):
            function, symbol = is_function(call.layer), symbol_of(call.layer)
            if function and symbol.split(".")[-1] in ("", *_JUMPS):
                return True
            passes = function or joins_channels(call) or commutation(call).gain
            if passes and id(call.first_output) not in seen:
                seen.add(id(call.first_output))
                edges.append(call.first_output)
    return False


def _exact_at_zero(
    graph: Graph, call: Call, steps: Steps, scale: np.ndarray, bias: np.ndarray
) -> Graph:
    """Writes scale * sum + bias so that it is exactly 0 where it should be.

    As (sum - threshold) * scale, which is what a batch norm computes. Of a scale in a
    kernel LCE makes other numbers, and what is 0 is no more than noise there: so all of
    it comes after a maximum, past which LCE does not look.
    """
    moves = scale != 0
    threshold = np.where(moves, -bias / np.where(moves, scale, 1.0), 0.0)
    if not np.any(moves & steps.reach(threshold)):
        return graph
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
        return graph.with_operation(Operation(call.name, AffineApart, None, arguments))
    whole = call.operation.replaced(arguments={"scale": None, "offset": None})
    after = Operation(f"{call.name}/scale", AffineApart, None, arguments)
    shape = tuple(call.first_output.shape[1:])
    first, last = chain(call, (whole, after), (shape, shape))
    last = last._replace(outputs=call.first_output)
    return graph.with_calls({call.label: [first, last]})


def merge(graph: Graph) -> Graph:
    """Merges affine operations in a row, and each with the convolutions before it."""
    takers = affine_into_binary_convolution, affine_into_kernel_before
    for each in (
        tanh_to_affine,
        merge_affines,
        affine_into_binary_convolution,
        affine_before_concatenation(takers),
    ):
        graph = everywhere(graph, each)
    return graph
