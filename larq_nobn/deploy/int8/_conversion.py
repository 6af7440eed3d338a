"""The conversion to int8: what it asks of a model, how kernels round, and its proof.

From end to end model and file may differ a lot on any example: int8 arithmetic rounds
sums that Keras does not, a value next to 0 gets the other sign, and a binary network
amplifies that. But between one rounded map and the next nothing is amplified, and every
sign is taken of numbers that both worlds hold exactly. So the maps of the file are the
segments, as signs are elsewhere: each is compared with what Keras computes for it from
the maps before, as the file contains those. Every element must lie within one and a
half quantization steps, for every example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._larq import lq
from ...graph import (
    _copies,
    _graph,
    _kinds,
    _linear,
    _operation,
    _probe,
    _segments,
    _signs,
)
from ...layers import FakeQuantization
from ...layers._channel_padding import ChannelPadding
from ...layers._inference import Apart, BinaryConvolution, PlainAffine
from ...rewrites._rule import Edit, everywhere, is_shared
from .._errors import ConversionError, VerificationError
from ..lite._converter import Function, IoSpec, Runner, inference, run, to_flatbuffer
from ..prepare._prepare import in_float32
from ..verify._agreement import agreement
from ..verify._verify import verify_prepared
from ._fake_quantize import ChannelShift, fixed_range
from ._plain import channelwise, grid_of, plain

_layers = keras.layers
_REMEDY = (
    "--calibrate 256 puts in what is missing (with --dataset, if the file names no "
    "images), and so does larq_nobn.deploy.fake_quantize(model, data)."
)


def check_int8(model: keras.Model, int8: bool) -> None:
    """Checks that a model says all ranges for an int8 file, and none for another."""
    graph = _graph.Graph(model)
    ranges = [c for c in graph.calls if isinstance(c.layer, FakeQuantization)]
    if not int8:
        if ranges:
            raise ConversionError(
                f"Layer {ranges[0].name!r} is a FakeQuantization, which makes int8 of "
                "what is around it. Pass int8=True (--int8), or convert the model "
                "without it."
            )
        return
    if not ranges:
        raise ConversionError(
            f"Model {model.name!r} contains no FakeQuantization, so nothing says which "
            f"numbers 8 bits should stand for. {_REMEDY}"
        )
    for call in ranges:
        if not call.layer.has_range:
            raise ConversionError(
                f"Layer {call.name!r} has no range yet. Train the model on some "
                "batches, or call set_range on the layer."
            )
    for given in model.inputs:
        readers = [c.layer for c in graph.consumers(given)]
        if given.dtype.is_integer:  # the numbers of rows in a table
            continue
        if not all(isinstance(layer, FakeQuantization) for layer in readers):
            raise ConversionError(
                f"Input {given.name!r} of model {model.name!r} does not go into a "
                f"FakeQuantization, so that an int8 file cannot take it. {_REMEDY}"
            )
    for call in graph.calls:
        quantizer = getattr(call.layer, "input_quantizer", None)
        if quantizer is None:
            quantizer = _signs.sign_of_layer(call.layer)
        shifted = getattr(quantizer, "shift", None) is not None
        if quantizer is not None and (shifted or not _reads_steps(call, graph)):
            raise ConversionError(
                f"Layer {call.label!r} takes the sign of what no FakeQuantization has "
                f"rounded, and rounding may turn it. {_REMEDY}"
            )


def _reads_steps(call: _graph.Call, graph: _graph.Graph) -> bool:
    """Whether what a call reads are steps of ranges, or signs."""
    # Each edge once: the number of paths through maxima grows exponentially.
    left, seen = list(call.reads), set()
    while left:
        tensor = left.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        maker = graph.producer(tensor)
        if maker is None:
            return False
        if isinstance(maker.layer, FakeQuantization) or _signs.sign_of_layer(
            maker.layer
        ):
            continue
        if _kinds.int8_of(maker) != "kept":
            return False
        left += maker.reads
    return True


# --- what conversion does to it


def without_ranges(model: keras.Model) -> keras.Model:
    """Returns the model of the same layers without their ranges."""
    graph = _graph.Graph(model)
    for call in graph.calls:
        if call.operation.kind is FakeQuantization:
            graph = graph.with_row(call.name, [])
    return _copies.to_keras(graph, shared=True)


def round_kernels(prepared: keras.Model, runtime: str) -> keras.Model:
    """Returns the model with its real-valued kernels rounded as the converter does.

    Scales after a kernel are merged into it first, since they change what a step of
    its channels is worth. Convolutions of all kinds get a scale for each output
    channel; a dense layer and the slopes of a PReLU get only one. Of a rounded kernel
    the converter finds the same scales again.
    """
    graph = _graph.Graph(prepared)
    of_lce = (leave_out_border, leave_border_float)
    for rule in (
        *(() if runtime == "lce" else (levels_as_range, negation, range_before_affine)),
        affine_alone,
        merge_scale,
        *(of_lce if runtime == "lce" else (shift_alone, range_before_moving)),
        partial(range_inside, of_binary=runtime != "lce"),
        range_for_clip,
        range_after_reshape,
    ):
        graph = everywhere(graph, rule)
    for call in graph.calls:
        operation, values = call.operation, {}
        binary = issubclass(operation.kind, BinaryConvolution)
        if not binary and _kinds.inherited(operation.kind).int8 != "none":
            for name in {*_operation.KERNELS, "alpha"} & operation.arrays.keys():
                channels = call.first_output.shape[-1]
                values[name] = _rounded(operation, name, channels)
        if values and call.label == graph.uses(call.name)[0].label:
            graph = graph.with_operation(operation.replaced(values))
    return _with_constant_ranges(_copies.to_keras(graph, shared=True))


def _with_constant_ranges(model: keras.Model) -> keras.Model:
    """Makes constants of the ranges of a model: converters write each variable first.

    Arguments:
        model: One for the caller alone, of aliases.
    """
    for layer in model.layers:
        if isinstance(layer, FakeQuantization):
            ends = {
                end: tf.constant(getattr(layer, end)) for end in ("minimum", "maximum")
            }
            own: Any = vars(layer)
            own.update(ends, _non_trainable_weights=[])
    return model


def merge_scale(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """A scale and a bias go into the real-valued kernel before them."""
    before = graph.producer(call.first_input)
    if call.operation.kind is PlainAffine:
        numbers = call.layer.exact
    elif call.operation.kind is ChannelShift:
        numbers = 1.0, call.operation.arrays["shift"]
    else:
        return None
    form = None if before is None else _linear.linear_of(before.operation)
    if form is None or before is None or form.is_activated:
        return None
    quantized = before.operation.argument("input_quantizer") is not None
    alone = graph.sole_consumer(call.first_input) is not None
    if quantized or not alone or is_shared(graph, before) or is_shared(graph, call):
        return None
    channels = call.first_input.shape[-1:]
    scale, bias = (np.broadcast_to(x, channels).astype(float) for x in numbers)
    operation = form.scaled_outputs(scale, bias)
    merged = before._replace(operation=operation, outputs=call.outputs)
    return Edit(graph.with_calls({call.label: [], before.label: [merged]}))


def levels_as_range(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Inputs of k bits are those of a range of 2^k - 1 steps from 0 to 1."""
    quantizer = call.operation.argument("input_quantizer")
    if (
        type(quantizer) is not lq.quantizers.DoReFa
        or quantizer.mode != "activations"
        or quantizer.precision > 8
        or call.first_input.shape.rank != 4
    ):
        return None
    # The range would end beyond 1.
    ones = np.ones(call.first_input.shape[-1])
    clip = channelwise(f"{call.name}/clip", ones, None, lq.activations.hard_tanh)
    levels = fixed_range(f"{call.name}/levels", 0, 255 / (2**quantizer.precision - 1))
    plain = call.operation.replaced(arguments={"input_quantizer": None})
    return Edit(graph.with_row(call.name, [clip, levels, plain]))


def negation(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """The opposite of a map, whose sign is 1 at 0, too, has the opposite range."""
    before = graph.producer(call.first_input)
    if (
        call.operation.kind is not PlainAffine
        or np.any(call.layer.exact[0] != -1)
        or np.any(call.layer.exact[1] != 0)
        or before is None
        or before.operation.kind is not FakeQuantization
        or call.first_input.shape.rank != 4
    ):
        return None
    grid = grid_of(before.layer)
    opposite = channelwise(call.name, -np.ones(call.first_input.shape[-1]))
    own = fixed_range(f"{call.name}/range", -grid.high, -grid.low)
    return Edit(graph.with_row(call.name, [opposite, own]))


def range_before_affine(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """A binary layer that ends in a ReLU gets the range that its affine leaves it.

    LCE computes both in float, up to the range after them.
    """
    before, after = (
        graph.producer(call.first_input),
        graph.sole_consumer(call.first_output),
    )
    if (
        call.operation.kind is not PlainAffine
        or before is None
        or before.operation.kind is not BinaryConvolution
        or before.operation.argument("last") is keras.activations.linear
        or after is None
        or after.operation.kind is not FakeQuantization
    ):
        return None
    gain, offset = call.layer.exact
    low, high = (
        float(end) for end in (after.layer.minimum.numpy(), after.layer.maximum.numpy())
    )
    factor = np.where(np.asarray(gain) == 0, np.inf, gain)
    ends = np.stack([(low - offset) / factor, (high - offset) / factor])
    own = fixed_range(f"{before.name}_range", min(ends.min(), 0), ends.max())
    return Edit(graph.with_row(call.name, [own, call.operation]))


def range_inside(
    graph: _graph.Graph, call: _graph.Call, of_binary: bool
) -> Edit | None:
    """Leaves out a range before an activation that is part of a convolution in a file.

    The file has none there, since it rounds once, after the activation. A range that
    cuts off what the one after it has stays: it is no matter of rounding.
    """
    reader = graph.sole_consumer(call.first_output)
    after = None if reader is None else graph.sole_consumer(reader.first_output)
    bounds = None if reader is None else _probe.bounds_of(reader)
    if (
        bounds not in _kinds.FUSED
        or not _is_inner_range(graph, call, after, bounds)
        or not _takes_activation(graph.producer(call.first_input), of_binary)
    ):
        return None
    return Edit(graph.with_row(call.name, []))


def _is_inner_range(
    graph: _graph.Graph,
    call: _graph.Call,
    after: _graph.Call | None,
    bounds: tuple[float, float],
) -> bool:
    """Whether a range cuts off nothing between bounds that the one after it has."""
    return (
        after is not None
        and call.operation.kind is after.operation.kind is FakeQuantization
        and graph.producer(call.first_input) is not None
        and graph.sole_consumer(call.first_input) is not None
        and graph.sole_consumer(call.first_output) is not None
        and not is_shared(graph, call)
        and not _cuts(call, after, *bounds)
    )


def range_for_clip(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """A clip goes, since the range after it cuts off as much.

    Of a maximum or minimum with a number the converter rounds that to the range before.
    Clips that it makes part of the operation before them stay.
    """
    afters = [graph.sole_consumer(use.first_output) for use in graph.uses(call.name)]
    ranges = [x for x in afters if x and x.operation.kind is FakeQuantization]
    bounds, before = _probe.bounds_of(call), graph.producer(call.first_input)
    if bounds is None or bounds in _kinds.FUSED or len(ranges) < len(afters):
        return None
    after = graph.sole_consumer(call.first_output)
    if before is not None and _is_inner_range(graph, before, after, bounds):
        graph = graph.with_row(before.name, [])
        before = graph.producer(before.first_input)
    row = []
    # An operation between two ranges.
    if is_shared(graph, call) or not _takes_activation(before, True):
        ones = np.ones(call.first_input.shape[-1])
        row = [channelwise(call.name, ones)]
    low, high = bounds
    grids = [grid_of(use.layer) for use in ranges]
    steps = [(grid.high - grid.low) / 255 for grid in grids]
    pairs = zip(grids, steps, strict=True)
    wider = [x.low < low - step or x.high > high + step for x, step in pairs]
    if any(wider) or (row and call.first_input.shape.rank != 4):
        raise ConversionError(
            f"Layer {call.name!r} cuts off what is outside of [{low:g}, {high:g}], of "
            "which int8 has no form there. Clip to [-1, 1] (larq.activations."
            "hard_tanh) or [0, 6] (tf.nn.relu6), or convert without int8."
        )
    return Edit(graph.with_row(call.name, row))


def range_before_moving(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Leaves out a range before what only moves numbers, if another comes after that.

    The converter wants one range for both sides, and rounds once, to the latter.
    """
    reader = graph.sole_consumer(call.first_output)
    after = None if reader is None else graph.sole_consumer(reader.first_output)
    if (
        call.operation.kind is not FakeQuantization
        or graph.producer(call.first_input) is None
        or graph.sole_consumer(call.first_input) is None
        or reader is None
        or not (
            _kinds.int8_of(reader) == "kept" or reader.operation.kind is ChannelPadding
        )
        or after is None
        or after.operation.kind is not FakeQuantization
        or _cuts(call, after)
    ):
        return None
    moved = reader.reading(call.first_output, call.first_input)
    return Edit(graph.with_calls({call.label: [], reader.label: [moved]}))


def _cuts(
    call: _graph.Call, after: _graph.Call, low: float = -np.inf, high: float = np.inf
) -> bool:
    """Whether a range leaves out, between bounds, what the one after it has."""
    inner, outer = grid_of(call.layer), grid_of(after.layer)
    ends = np.clip((inner.low, inner.high), low, high)
    wanted = np.clip((outer.low, outer.high), low, high)
    return bool(ends[0] > wanted[0] + inner.step or ends[1] < wanted[1] - inner.step)


def _takes_activation(call: _graph.Call | None, of_binary: bool) -> bool:
    """Whether the converter makes an activation part of an operation."""
    if call is None:
        return False
    operation = call.operation
    if operation.kind is BinaryConvolution:
        return of_binary and operation.argument("last") is keras.activations.linear
    form = _linear.linear_of(operation)
    return operation.kind is _layers.Add or (form is not None and not form.is_activated)


def affine_alone(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Factors that no kernel can take become a convolution of single channels.

    That is one operation in int8, where a product and a sum would stay float.
    """
    if (
        call.operation.kind is not PlainAffine
        or np.ndim(call.layer.exact[0]) != 1
        or call.first_input.shape.rank != 4
        or not all(_reads_steps(use, graph) for use in graph.uses(call.name))
    ):
        return None
    return Edit(graph.with_row(call.name, [channelwise(call.name, *call.layer.exact)]))


def shift_alone(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """A shift that no kernel takes becomes such a convolution, too.

    As a sum with a constant, which delegates leave to others, it would have 8 bits.
    """
    if (
        call.operation.kind is not ChannelShift
        or call.first_input.shape.rank != 4
        or not all(_reads_steps(use, graph) for use in graph.uses(call.name))
    ):
        return None
    shift = call.operation.arrays["shift"]
    return Edit(graph.with_row(call.name, [channelwise(call.name, 1.0, shift)]))


def leave_out_border(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """A binary convolution that meets no zeros is not padded, which LCE asks for."""
    operation = call.operation
    padded = (
        operation.argument("padding") == "same" and _linear.border_of(operation) is None
    )
    if operation.kind is not BinaryConvolution or not padded:
        return None
    return Edit(
        graph.with_operation(operation.replaced(arguments={"padding": "valid"}))
    )


def leave_border_float(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """A binary convolution that is padded with zeros stays float up to its range.

    LCE makes the range part of it, with a scale and a bias between, and has no kernel
    for int8 then.
    """
    linear = call.operation.argument("last") is keras.activations.linear
    padded = (
        call.operation.kind is BinaryConvolution
        and _linear.border_of(call.operation) == 0
    )
    readers = [c.operation.kind for c in graph.consumers(call.first_output)]
    merged = {FakeQuantization, ChannelShift, PlainAffine} & {*readers}
    if not (linear and padded and merged):
        return None
    row = (call.operation, _operation.Operation(f"{call.name}/float", Apart))
    changed = {}
    for use in graph.uses(call.name):
        first, last = _graph.chain(use, row, [tuple(use.first_output.shape[1:])] * 2)
        changed[use.label] = [first, last._replace(outputs=use.first_output)]
    return Edit(graph.with_calls(changed))


def range_after_reshape(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """The range of a mean follows the reshape that alone reads it.

    The converter makes one operation of both, which rounds otherwise than a mean. So it
    does with the range as an output, too, if that is of what is reshaped.
    """
    reader = graph.sole_consumer(call.first_output)
    if (
        call.operation.kind is not FakeQuantization
        or reader is None
        or not _kinds.inherited(reader.operation.kind).reshapes
        or not _is_mean(graph, graph.producer(call.first_input))
    ):
        return None
    between = _graph.NewEdge(reader.first_output)
    before = reader.reading(call.first_output, call.first_input)
    after = call.reading(call.first_input, between)
    after = after._replace(outputs=reader.first_output)
    parts = before._replace(outputs=between), after
    return Edit(graph.with_calls({call.label: (), reader.label: parts}))


def _is_mean(graph: _graph.Graph, call: _graph.Call | None) -> bool:
    """Whether a call is a mean of positions, or such a mean in another shape."""
    while call is not None and _kinds.inherited(call.operation.kind).reshapes:
        call = graph.producer(call.first_input)
    if call is None:
        return False
    means = _kinds.inherited(call.operation.kind).pool == "whole mean"
    return means or _kinds.symbol_of(call.layer) == "math.reduce_mean"


def _rounded(operation: _operation.Operation, name: str, channels: int) -> np.ndarray:
    """Returns a kernel in steps, one for all elements that the file scales alike."""
    kernel, form = (
        operation.arrays[name].astype(np.float32),
        _linear.linear_of(operation),
    )
    axes = tuple(range(kernel.ndim))
    if name != "alpha" and not issubclass(operation.kind, keras.layers.Dense):
        if form is not None:
            shape = form.by_output(np.ones(channels)).shape
            shape = (1,) * (kernel.ndim - len(shape)) + shape
            axes = tuple(axis for axis in axes if shape[axis] == 1)
        elif kernel.ndim > 3:
            axes = axes[:-1]
    step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.rint(kernel / np.where(step > 0, step, 1)) * step


# --- the file


def int8_function(
    prepared: keras.Model, runtime: str
) -> tuple[Function, Sequence[tf.Variable]]:
    """Returns what the file of a prepared model computes, and the variables of it.

    In LCE's, nothing else reads what is an output.
    """
    if runtime == "litert":
        written = plain(prepared)
        return inference(written), written.variables
    function = inference(prepared)

    def apart(inputs: Sequence[Any]) -> list[Any]:
        return _outputs_apart(prepared, function(inputs))

    return apart, prepared.variables


def _outputs_apart(prepared: keras.Model, outputs: Sequence[Any]) -> list[Any]:
    """Copies of those outputs that a layer of the model reads, too.

    LCE loses such an output where a float operation or a sign reads it. The largest of
    two equal numbers is a copy that it does not merge.
    """
    graph = _graph.Graph(prepared)
    read = [
        end.dtype.is_floating and bool(graph.consumers(end)) for end in prepared.outputs
    ]
    pairs = zip(outputs, read, strict=True)
    return [tf.maximum(x, x) if again else x for x, again in pairs]


# --- its proof

# Half a step is rounding itself. The rest is for shifts, which the file rounds to 8
# bits and Keras does not, and for the fixed-point factors of int8 arithmetic. Measured:
# 0.50 to 0.75 on the networks of this package.
MOST_STEPS = 1.5


def verify_int8(
    prepared: keras.Model,
    runner: Runner,
    io: IoSpec,
    examples: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Compares a prepared model with its int8 file.

    Returns:
        How far the outputs agree from end to end, where `exact_share` counts examples
        whose outputs are within one quantization step, the maps under `"int8"`, and
        their distances, in these steps, under `"segments"`.

    Raises:
        VerificationError: If a map is farther off than rounding reaches.
    """
    graph = _graph.Graph(prepared)
    ranges = [c for c in graph.calls if isinstance(c.layer, FakeQuantization)]
    # Whoever runs a file rounds its inputs: here that is the runner.
    ranges = [call for call in ranges if graph.producer(call.first_input) is not None]
    inner = [call for call in ranges if not graph.is_output(call.first_output)]
    visible, count = _visible(prepared, inner, io, runner.runtime), len(inner)
    makers = [graph.producer(end) for end in prepared.outputs]
    labels = {call.label for call in ranges}
    # Of the model: the file's own may be wrong.
    grids = {call.label: grid_of(call.layer) for call in ranges}
    for name, tensor in zip(
        prepared.output_names, visible.output_tensors[count:], strict=True
    ):
        grids.setdefault(name, _segments.QuantizationGrid(tensor.scale))

    def held(group: list[np.ndarray]) -> _segments.Recording:
        maps = visible.outputs(group)
        ends = maps[count:]
        if not all(map(np.array_equal, ends, runner.outputs(group))):
            raise VerificationError(
                "The converted file and the same file with its feature maps made "
                "visible compute different outputs, so it cannot be compared map by "
                "map. Convert the model without ranges and int8. No file was written."
            )
        values = {c.label: x[..., :-1] for c, x in zip(inner, maps, strict=False)}
        known = zip(makers, ends, strict=True)
        values |= {c.label: x for c, x in known if c is not None and c.label in labels}
        return _segments.Recording(ends, {}, values, values, grids)

    pairs = zip(visible.input_tensors, examples, strict=True)
    rounded = [
        array if tensor.scale is None else tensor.decode(tensor.encode(array))
        for tensor, array in pairs
    ]
    segments = _segments.compare(prepared, held, rounded, MOST_STEPS)
    for name, maker in zip(prepared.output_names, makers, strict=True):
        if maker is not None and maker.label in labels:  # a map, which was compared
            segments.results.pop(("output", name), None)
    for result in segments.results.values():
        if result.faulty:
            raise VerificationError(
                "The converted file computes something else: of the maps that the file "
                f"itself contains before, Keras makes a map of layer {result.name!r} "
                f"that is up to {result.worst:.3g} quantization steps away, in "
                f"{len(result.faulty)} of {segments.examples} examples, while rounding "
                f"reaches {MOST_STEPS:g}. No file was written."
            )
    wanted, outputs = run(prepared, examples), segments.outputs
    near = np.ones(len(examples[0]), bool)
    for first, second, tensor in zip(
        wanted, outputs, runner.output_tensors, strict=True
    ):
        distance = np.abs(first - second).reshape(len(first), -1).max(axis=1)
        near &= distance <= 1.01 * (tensor.scale or 0.0)
    return {
        **agreement(wanted, outputs, np.inf, segments),
        "exact_share": float(near.mean()),
        "explained": int((~near).sum()),  # map by map, everything has been explained
        "int8": {
            "maps": len(segments.results),
            "worst_steps": max(result.worst for result in segments.results.values()),
            "inputs": [asdict(tensor) for tensor in runner.input_tensors],
            "outputs": [asdict(tensor) for tensor in runner.output_tensors],
        },
    }


def _visible(
    prepared: keras.Model, inner: Sequence[_graph.Call], io: IoSpec, runtime: str
) -> Runner:
    """Runs the same file with all maps as outputs, since only those can be read."""
    edges = [*(call.first_output for call in inner), *prepared.outputs]
    wide = IoSpec(io.inputs, [f"map_{i}" for i in range(len(edges))])
    shown = keras.Model(prepared.inputs, edges, name="net")
    written = plain(shown) if runtime == "litert" else shown
    function = inference(written)

    def padded(inputs: Sequence[Any]) -> list[Any]:
        # Outputs that are read have to be copies, as those of the file.
        maps, count = function(inputs), len(inner)
        borders = ([[0, 0]] * (x.shape.rank - 1) + [[0, 1]] for x in maps[:count])
        ends = maps[count:]
        if runtime == "lce":
            ends = _outputs_apart(prepared, ends)
        return [*map(tf.pad, maps[:count], borders), *ends]

    content = to_flatbuffer(padded, written.variables, wide, True, runtime)
    return Runner(content, runtime)


def verify_without_rounding(
    given: keras.Model, prepared: keras.Model, examples: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Compares the given model with the prepared one, both without their ranges.

    The kernels of the prepared one are not rounded yet. With ranges, two sums that
    differ in the last bit may be rounded to different steps; and what is prepared keeps
    the ranges as they are.

    Raises:
        VerificationError: If some difference is no matter of rounding.
    """
    plain = without_ranges(in_float32(given))
    same, _ = verify_prepared(plain, plain, without_ranges(prepared), examples)
    return {**same, "reference": "the given model, before rounding to int8"}
