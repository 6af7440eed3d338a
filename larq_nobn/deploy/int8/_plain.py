"""Binary layers in int8 operations that every runtime has: exact, and without LCE.

A ±1 kernel is a convolution in which ±1 are ±127; a sign is a depthwise convolution
that saturates. The scale of a binary layer is part of its kernel, whose channels have
scales of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._keras import keras
from ..._larq import lq
from ...graph import _copies, _graph, _kinds, _linear, _operation, _segments, _signs
from ...layers import FakeQuantization
from ...layers._fake_quantization import representable_range
from ...layers._inference import (
    BinaryConvolution,
    SaturatingSign,
    ShiftedSign,
    SignAbove,
    SummedPReLU,
)
from ...rewrites._rule import Edit, everywhere

_layers = keras.layers
_SIGNS = (ShiftedSign, SignAbove)


def plain(prepared: keras.Model) -> keras.Model:
    """Returns the prepared model of the same function without binary operations."""
    graph = _graph.Graph(prepared)

    def spell(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
        if call.operation.kind in _SIGNS:
            row = [_saturating_sign(graph, call.name, call.operation.layer)]
            return Edit(graph.with_row(call.name, row))
        if call.operation.kind is _layers.PReLU:
            return _summed_prelu(graph, call)
        if call.operation.kind is _layers.AveragePooling2D:
            return _weighted_mean(graph, call)
        if call.operation.kind is BinaryConvolution or _is_of_signs(call.operation):
            return Edit(_convolution(graph, call))
        return None

    graph = everywhere(graph, spell)
    written = _copies.to_keras(graph, float32=True, shared=True)
    return keras.Model(written.inputs, written.outputs, name=prepared.name)


def _convolution(graph: _graph.Graph, call: _graph.Call) -> _graph.Graph:
    operation, name = call.operation, call.name
    border = _linear.border_of(operation)
    quantizer = operation.argument("input_quantizer")
    padded = border is not None and border > 0
    changed = {}
    for use in graph.uses(name):
        rows, columns, channels = use.first_input.shape[1:]
        shape = (rows, columns, channels)
        row: list[tuple[_operation.Operation, tuple]] = []
        if quantizer is not None or padded:
            padding = None
            if padded:
                padding = operation.layer._get_spatial_padding_same((rows, columns))
                shape = (rows + sum(padding[0]), columns + sum(padding[1]), channels)
            sign = _saturating_sign(graph, name, quantizer, padding)
            row.append((sign, shape))
        out = tuple(use.first_output.shape[1:])
        row.append((_real(operation, padded), out))
        operations, shapes = zip(*row, strict=True)
        calls = _graph.chain(use, operations, shapes)
        changed[use.label] = [*calls[:-1], calls[-1]._replace(outputs=use.first_output)]
    return graph.with_calls(changed)


def _real(operation: _operation.Operation, padded: bool) -> _operation.Operation:
    """Returns the convolution of signs, with its scale, offset and activation."""
    layer, kernel = operation.layer, operation.arrays["kernel"]
    bias, activation = operation.arrays.get("bias"), operation.argument("activation")
    if operation.kind is BinaryConvolution:
        bias, activation = layer.offset, layer.last
        if layer.scale is not None:
            kernel = kernel * np.asarray(layer.scale)
    names = ("filters", "kernel_size", "strides", "dilation_rate", "padding")
    arguments = {
        name: operation.argument(name)
        for name in names
        if operation.argument(name) is not None
    }
    if padded:
        arguments["padding"] = "valid"
    arguments |= {"activation": activation, "use_bias": bias is not None}
    values = {"kernel": kernel}
    if bias is not None:
        values["bias"] = np.asarray(bias)
    return _operation.Operation(operation.name, _layers.Conv2D, None, arguments, values)


def _is_of_signs(operation: _operation.Operation) -> bool:
    """Whether it is a convolution of signs with other numbers than ±1, such as 0."""
    quantizer = operation.argument("input_quantizer")
    return (
        operation.kind is lq.layers.QuantConv2D
        and _kinds.SIGNS.get(_signs.kind_of(quantizer)) == "zero"
        and operation.quantizer("kernel") is None
        and operation.argument("groups") == 1
        and _linear.border_of(operation) in (None, 0.0, 1.0)
    )


def channelwise(
    name: str, gain: Any, offset: Any = None, activation: Any = None
) -> _operation.Operation:
    """Returns a convolution of single channels: activation(gain * x + offset)."""
    given = gain if offset is None else np.broadcast_arrays(gain, offset)[0]
    values = {"depthwise_kernel": np.asarray(given)[None, None, :, None]}
    if offset is not None:
        values["bias"] = np.broadcast_to(offset, np.shape(given))
    size = {
        "kernel_size": 1,
        "activation": activation,
        "use_bias": offset is not None,
    }
    return _operation.Operation(name, _layers.DepthwiseConv2D, None, size, values)


def _summed_prelu(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    slope = np.asarray(call.operation.arrays["alpha"])
    before, after = graph.producer(call.first_input), graph.consumers(call.first_output)
    ranges = [before, *after]
    if (
        call.first_input.shape.rank != 4
        or slope.size != slope.shape[-1]
        or len(graph.uses(call.name)) > 1
        or len(ranges) != 2
        or not all(x and x.operation.kind is FakeQuantization for x in ranges)
    ):
        return None
    first, last = (grid_of(x.layer)[1:] for x in ranges if x)
    if last[0] >= 0:  # nothing below 0, whose range could not end there
        return None
    arguments = {"slope": slope.reshape(-1), "ends": first, "range_after": last}
    own = _operation.Operation(call.name, SummedPReLU, None, arguments)
    return Edit(graph.with_row(call.name, [own]))


def _weighted_mean(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Returns a mean of windows as a convolution, which delegates have in int8."""
    layer, sizes = call.operation.layer, call.first_input.shape[1:3]
    equal = layer.strides[0] == layer.strides[1]
    pairs = zip(sizes, layer.pool_size, layer.strides, strict=True)
    whole = all(
        size % stride == 0 and window <= stride for size, window, stride in pairs
    )
    if layer.data_format != "channels_last" or not (equal and whole):
        return None
    arguments = {
        "kernel_size": layer.pool_size,
        "strides": layer.strides,
        "padding": "valid",
        "use_bias": False,
    }
    shape = (*layer.pool_size, call.first_input.shape[-1], 1)
    kernel = np.full(shape, 1 / np.prod(layer.pool_size), np.float32)
    own = _operation.Operation(
        call.name,
        _layers.DepthwiseConv2D,
        None,
        arguments,
        {"depthwise_kernel": kernel},
    )
    return Edit(graph.with_row(call.name, [own]))


def grid_of(layer: FakeQuantization) -> _segments.QuantizationGrid:
    """Returns the numbers that a range can hold."""
    low, high = map(float, representable_range(layer.minimum, layer.maximum))
    return _segments.QuantizationGrid((high - low) / 255, low, high)


def _saturating_sign(
    graph: _graph.Graph, name: str, quantizer: Any, padding: Any = None
) -> _operation.Operation:
    """Returns the sign of what all calls of a layer read."""
    arguments = {
        "shift": None if quantizer is None else getattr(quantizer, "shift", None),
        "above": type(quantizer) is SignAbove,
        "step": min(_step(graph, use) for use in graph.uses(name)),
        "padding": padding,
    }
    alone = graph.uses(name)[0].operation.kind in _SIGNS
    label = name if alone else f"{name}/sign"
    return _operation.Operation(label, SaturatingSign, None, arguments)


def _step(graph: _graph.Graph, call: _graph.Call) -> float:
    """Returns the least step of the ranges that a call reads; of signs 1."""
    steps, left, seen = [], list(call.reads), set()
    while left:
        tensor = left.pop()
        maker = graph.producer(tensor)
        if id(tensor) in seen or maker is None:
            continue
        seen.add(id(tensor))
        if isinstance(maker.layer, FakeQuantization):
            _, low, high = grid_of(maker.layer)
            steps.append((high - low) / 255)
        elif maker.operation.kind not in (*_SIGNS, SaturatingSign):
            left += maker.reads
    return min(steps, default=1.0)
