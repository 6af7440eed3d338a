"""Writes binary layers of several kinds as the binary convolutions that LCE knows.

What meets the kernel is factor * t + mean, where t is ±1: t itself, (1 - t) / 2 of an
input of 0 and 1, or -t of a sign that is -1 at 0. So a layer makes factor * conv(t) +
mean * sum(kernel), and at a border, where t is what pads the map in LCE, less what that
adds and the model's padding does not.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

import numpy as np

from ..._keras import keras
from ..._larq import lq
from ...graph import _graph, _kinds, _operation, _signs
from ...layers import _inference
from ...rewrites._rule import Edit, GraphRule, affine_operation, rule
from .. import _binary
from .._normal import given_name
from ._at_inference import plain_quantizer, shifted_sign
from ._geometry import Geometry, border_sums, geometry, padded_as

_layers = keras.layers
_LINEAR = keras.activations.linear
# Operations in a row, and the shape of the map that each of them makes.
_Row = list[tuple[_operation.Operation, tuple[int, ...]]]


def binary_layer(in_float: Container[str] = ()) -> GraphRule:
    """Returns a rule that makes binary convolutions of a binary layer.

    They have ±1 in their kernels, and the scale after. A layer of a class that may
    compute more than is known here stays.

    Arguments:
        in_float: The names of layers that stay as they are.
    """

    @rule
    def match(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
        if given_name(call.name) in in_float or not _is_known(call):
            return None
        before, rows, after = _parts(call)
        changed = {}
        for use in graph.uses(call.name):
            row_calls = _run(use, before)
            start = row_calls[-1].first_output if row_calls else use.first_input
            ends = []
            for row in rows:
                row_calls += _run(use, row, start)
                ends.append(row_calls[-1].first_output)
            if len(rows) > 1:
                join = _operation.Operation(f"{call.name}/groups", _layers.Concatenate)
                channels = sum(end.shape[-1] for end in ends)
                whole = _graph.NewEdge(ends[0], (*ends[0].shape[1:-1], channels))
                name = join.name + use.label.removeprefix(call.name)
                reads = tuple(ends)
                row_calls.append(
                    _graph.Call(name, join.name, ends, whole, None, reads, join)
                )
            row_calls += _run(use, after, row_calls[-1].first_output)
            row_calls[-1] = row_calls[-1]._replace(outputs=use.first_output)
            changed[use.label] = row_calls
        return Edit(graph.with_calls(changed))

    return match


def _run(use: _graph.Call, row: _Row, start: Any = None) -> list[_graph.Call]:
    operations, shapes = zip(*row, strict=True) if row else ((), ())
    return _graph.chain(use, operations, shapes, start)


def _parts(call: _graph.Call) -> tuple[_Row, list[_Row], _Row]:
    """Returns the rows before the groups of channels, of each group, and after them."""
    layer, name = call.layer, call.name
    place, kernel = geometry(call), binary_kernel(call)
    names = _binary.binary_parts(call)
    groups = len(names)
    size, filters = place.channels // groups, len(kernel.scale) // groups
    bias = call.operation.arrays["bias"] if layer.use_bias else 0.0
    bias = np.broadcast_to(bias, kernel.scale.shape)
    # Otherwise it comes last, on the shape that it was written for.
    any_rank = _kinds.function_traits(layer.activation).elementwise
    inside = groups == 1 and (not place.reshaped or any_rank)
    activation = layer.activation if inside else _LINEAR
    rows = []
    for i, part in enumerate(names):
        channels = slice(i * size, (i + 1) * size)
        signs = signs_of(call, channels, place.reshaped or groups > 1)
        made = slice(i * filters, (i + 1) * filters)
        own = kernel._replace(signs=kernel.signs[..., made], scale=kernel.scale[made])
        row = convolution(part, own, bias[made], place, signs, activation)
        if groups > 1:
            some = _operation.Operation(
                f"{part}/channels", _inference.Channels, None, {"channels": channels}
            )
            row.insert(0, (some, (*place.map_shape[:-1], size)))
        rows.append(row)

    before: _Row = []
    if place.reshaped:
        target = {"target_shape": place.map_shape}
        reshape = _operation.Operation(f"{name}/map", _layers.Reshape, None, target)
        before.append((reshape, place.map_shape))
    if signs.front is not None:
        front = affine_operation(f"{name}/signs", *signs.front)
        before.append((front, place.map_shape))
    if place.causal:
        longer = place.columns.before
        sides = {"padding": ((0, 0), (longer, 0))}
        padding = _operation.Operation(
            f"{name}/padding", _layers.ZeroPadding2D, None, sides
        )
        rows_, columns, last = place.map_shape
        before.append((padding, (rows_, columns + longer, last)))
    after: _Row = []
    shape = tuple(call.first_output.shape[1:])
    if place.reshaped:
        target = {"target_shape": shape}
        after.append(
            (
                _operation.Operation(f"{name}/shape", _layers.Reshape, None, target),
                shape,
            )
        )
    if not inside and layer.activation is not _LINEAR:
        after.append((_activation(f"{name}/activation", layer.activation), shape))
    return before, rows, after


def _activation(name: str, function: Any) -> _operation.Operation:
    return _operation.Operation(
        name, _layers.Activation, None, {"activation": function}
    )


def rewritten(model: keras.Model) -> list[dict[str, str]]:
    """The layers that are another binary convolution in LCE, and what they are there.

    Arguments:
        model: A functional model.

    Returns:
        For each layer its name, its kind, and what it is rewritten as.
    """
    entries = {
        call.name: {
            "layer": call.name,
            "kind": type(call.layer).__name__,
            "as": ", ".join(_described(call)),
        }
        for call in _graph.calls(model)
        if _is_known(call)
    }
    return [entry for entry in entries.values() if entry["as"]]


def _described(call: _graph.Call) -> list[str]:
    place, said = geometry(call), []
    if _binary.is_reshaped(call):
        size = "x".join(map(str, place.kernel_size))
        said.append(f"{size} convolution")
    groups = len(_binary.binary_parts(call))
    if groups > 1:
        said.append(f"{groups} convolutions, one for each group")
    if _binary.is_zero_one(_binary.sign_of_kernel_input(call)):
        said.append("inputs of 0 and 1 as signs")
    if _binary.is_zero_one(getattr(call.layer, "kernel_quantizer", None)):
        said.append("kernel of 0 and 1 as signs")
    padding = padded_as(place, *mixture(call))
    if padding.place.kernel_size != place.kernel_size:
        size = "x".join(map(str, padding.place.kernel_size))
        said.append(f"kernel of {size}, all that meets the map")
    if padding.differs:
        said.append("padded with ones, less what they add")
    return said


def _is_known(call: _graph.Call) -> bool:
    return _binary.is_reshaped(call) or (
        _binary.is_plain(call) and _signs.is_binary_convolution(call)
    )


class Signs(NamedTuple):
    """How the input of a layer becomes ±1.

    Attributes:
        quantizer: The sign; None if the input is ±1.
        front: Scale and bias before the sign; None for none.
        factor, mean: What meets the kernel is factor * sign + mean.
        of_zero: What it makes of 0, with which maps are padded before it: a number, or
            (C,).
    """

    quantizer: Any
    front: tuple[float, float] | None = None
    factor: float = 1.0
    mean: float = 0.0
    of_zero: Any = 1.0


def signs_of(call: _graph.Call, channels: slice, again: bool) -> Signs:
    """Returns the sign before some of the input channels of a layer.

    Arguments:
        call: Of a binary layer.
        channels: Which.
        again: Whether LCE would not see a sign that stands before the layer.
    """
    own = call.operation.argument("input_quantizer")
    if isinstance(own, lq.quantizers.NoOp):
        own = None
    name = f"{call.name}_sign"
    sign = _binary.sign_of_kernel_input(call)
    if _binary.is_zero_one(sign) or _binary.is_above(sign):
        # It is 0 or -1 at 0, where the sign of the opposite is 1.
        front = (
            (-2.0, 1.0) if own is None and _binary.is_zero_one(sign) else (-1.0, 0.0)
        )
        gain = -np.ones(channels.stop - channels.start)
        opposite = _operation.Operation(
            name, _inference.ShiftedSign, None, {"shift": None, "gain": gain}
        )
        return Signs(opposite, front, *mixture(call))
    if own is None:
        return Signs(shifted_sign(name) if again else None)
    new = plain_quantizer(own)
    known = isinstance(new, _operation.Operation) and new.kind is _inference.ShiftedSign
    if not known or new.argument("shift") is None:
        return Signs(new)
    shift = new.argument("shift")[channels]
    of_zero = np.where(shift >= 0, 1.0, -1.0)
    return Signs(shifted_sign(new.name, shift), of_zero=of_zero)


def mixture(call: _graph.Call) -> tuple[float, float]:
    """Returns the factor and the mean of what meets a layer's kernel."""
    sign = _binary.sign_of_kernel_input(call)
    if _binary.is_zero_one(sign):
        return -0.5, 0.5
    return (-1.0, 0.0) if _binary.is_above(sign) else (1.0, 0.0)


class BinaryKernel(NamedTuple):
    """scale * signs, or (signs + 1) / 2 of a kernel of 0 and 1.

    Attributes:
        signs: ±1, (height, width, input channels, output channels).
        scale: (C,), not negative.
        zero_one: Whether its values are 0 and 1.
    """

    signs: np.ndarray
    scale: np.ndarray
    zero_one: bool


def binary_kernel(call: _graph.Call) -> BinaryKernel:
    """Reads the kernel of a binary layer as that of a 2D convolution."""
    kernel = _signs.quantized(call.operation, "kernel")
    kernel = kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)
    if _binary.is_zero_one(call.operation.quantizer("kernel")):
        signs = np.where(kernel > 0, np.float32(1), np.float32(-1))
        return BinaryKernel(signs, np.ones(kernel.shape[-1]), zero_one=True)
    split = _signs.split_kernel(kernel)
    assert split is not None  # or it were no binary layer
    return BinaryKernel(*split, zero_one=False)


def convolution(
    name: str,
    kernel: BinaryKernel,
    bias: np.ndarray,
    place: Geometry,
    signs: Signs,
    activation: Any,
) -> _Row:
    """Returns the operations from the sign to the activation, in a row."""
    values, scale = kernel.signs, kernel.scale
    if kernel.zero_one:  # half of what the signs make, and of what ones would
        values = np.concatenate([values, np.ones_like(values[..., :1])], axis=-1)
        scale, bias = np.full(values.shape[-1], 0.5), np.append(bias, 0.0)
    more: Any = 0.0
    if signs.mean:  # also of what meets nothing but the padding
        more = signs.mean * values.astype(np.float64).sum(axis=(0, 1, 2))
    padding = padded_as(place, signs.factor, signs.mean)
    if padding.place is not place:
        values = values[place.rows.met(), place.columns.met()]
        place = padding.place
    if padding.differs:
        # What pads the map in LCE, less what the model pads it with.
        pads = signs.of_zero if place.causal else padding.value
        pads = np.broadcast_to(pads, values.shape[2]) - padding.wanted
        sums = border_sums(values * pads[:, None], place.rows, place.columns)
        more = more - signs.factor * sums
    factor = abs(signs.factor)
    # A border is taken from whole numbers: what is 0 stays 0, which is noise in steps
    # of a scale. Half of a kernel of 0 and 1 is as exact.
    last = padding.differs and not kernel.zero_one and bool(np.any(scale != 1))
    inside, offset = (1.0, more) if last else (scale, more * scale + bias)
    turn = np.float32(np.sign(signs.factor) * (-1 if padding.differs else 1))
    simple = not (padding.differs or kernel.zero_one)
    arguments = {
        "scale": np.broadcast_to(inside * factor, scale.shape),
        "offset": None if padding.differs else offset,
        "last": activation if simple else _LINEAR,
        "filters": values.shape[-1],
        "kernel_size": place.kernel_size,
        "strides": (place.rows.stride, place.columns.stride),
        "dilation_rate": (place.rows.dilation, place.columns.dilation),
        "padding": "valid" if place.causal else place.columns.padding,
        "pad_values": padding.value,
        "input_quantizer": signs.quantizer,
    }
    made = (place.rows.steps, place.columns.steps, values.shape[-1])
    conv = _operation.Operation(
        name, _inference.BinaryConvolution, None, arguments, {"kernel": values * turn}
    )
    row: _Row = [(conv, made)]
    if padding.differs:
        border = _operation.Operation(
            f"{name}/border", _inference.ConstantLess, None, {"constant": offset}
        )
        row.append((border, made))
    if last:
        row.append((affine_operation(f"{name}/scale", scale, bias), made))
    if kernel.zero_one:
        made = (*made[:-1], made[-1] - 1)
        row.append((_operation.Operation(f"{name}/sum", _inference.PlusLast), made))
    if not simple and activation is not _LINEAR:
        row.append((_activation(f"{name}/activation", activation), made))
    return row
