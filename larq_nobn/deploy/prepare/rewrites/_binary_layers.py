"""Writes binary layers of several kinds as the binary convolutions that LCE knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...._keras import keras
from ....graph import Call, calls, is_binary_convolution
from ..._binary import (
    binary_parts,
    is_plain,
    is_reshaped,
    is_zero_one,
    sign_for,
)
from .._inference import BinaryConvolution, PlainAffine
from ._geometry import Geometry, border_sums, geometry, padded_as
from ._layers import Channels, ConstantLess, PlusLast
from ._lift import takes_any_rank
from ._signs import BinaryKernel, Signs, binary_kernel, mixture, signs_of

_layers = keras.layers
_LINEAR = keras.activations.linear


def binary_layer(call: Call) -> tuple[Callable[..., Any], Callable[[], None]] | None:
    """The layers that a binary layer becomes, and what fills their weights once built.

    None if it is none, or of a class that may compute more than is known here.
    """
    if not _is_known(call):
        return None
    layer, place, kernel = call.layer, geometry(call), binary_kernel(call)
    names = binary_parts(call)
    groups = len(names)
    size, filters = place.channels // groups, len(kernel.scale) // groups
    bias = layer.bias.numpy() if layer.use_bias else 0.0
    bias = np.broadcast_to(bias, kernel.scale.shape)
    # Otherwise it comes last, on the shape that it was written for.
    inside = groups == 1 and (not place.reshaped or takes_any_rank(layer.activation))
    activation = layer.activation if inside else _LINEAR
    rows, fills = [], []
    for i, name in enumerate(names):
        channels = slice(i * size, (i + 1) * size)
        signs = signs_of(call, channels, place.reshaped or groups > 1)
        made = slice(i * filters, (i + 1) * filters)
        part = kernel._replace(signs=kernel.signs[..., made], scale=kernel.scale[made])
        row = convolution(name, part, bias[made], place, signs, activation)
        if groups > 1:
            row = [Channels(channels, name=f"{name}/channels"), *row]
        rows.append(row)
        fills.append(signs.fill)

    run = _chain(rows[0])
    if groups > 1:
        run = _joined(rows, call.name)
    after: list[Any] = []
    if place.reshaped:
        shape = call.first_output.shape[1:]
        after.append(_layers.Reshape(shape, name=f"{call.name}/shape"))
    if not inside and layer.activation is not _LINEAR:
        last = _layers.Activation(layer.activation, name=f"{call.name}/activation")
        after.append(last)
    run = _chain([*_before(call, signs), run, *after])

    def fill() -> None:
        for each in fills:
            each()

    return run, fill


def rewritten(model: keras.Model) -> list[dict[str, str]]:
    """The layers that are another binary convolution in LCE, and what they are there.

    Arguments:
        model: A functional model.

    Returns:
        For each layer its name, its kind, and what it is rewritten as.
    """
    found = {
        call.name: {
            "layer": call.name,
            "kind": type(call.layer).__name__,
            "as": ", ".join(_described(call)),
        }
        for call in calls(model)
        if _is_known(call)
    }
    return [entry for entry in found.values() if entry["as"]]


def _described(call: Call) -> list[str]:
    place, said = geometry(call), []
    if is_reshaped(call):
        size = "x".join(map(str, place.kernel_size))
        said.append(f"{size} convolution")
    groups = len(binary_parts(call))
    if groups > 1:
        said.append(f"{groups} convolutions, one for each group")
    if is_zero_one(sign_for(call)):
        said.append("inputs of 0 and 1 as signs")
    if is_zero_one(getattr(call.layer, "kernel_quantizer", None)):
        said.append("kernel of 0 and 1 as signs")
    padding = padded_as(place, *mixture(call))
    if padding.place.kernel_size != place.kernel_size:
        size = "x".join(map(str, padding.place.kernel_size))
        said.append(f"kernel of {size}, all that meets the map")
    if padding.differs:
        said.append("padded with ones, less what they add")
    return said


def _is_known(call: Call) -> bool:
    return is_reshaped(call) or (is_plain(call) and is_binary_convolution(call))


def _before(call: Call, signs: Signs) -> list[Any]:
    """What all groups of channels go through."""
    place, before = geometry(call), []
    if place.reshaped:
        before.append(_layers.Reshape(place.map_shape, name=f"{call.name}/map"))
    if signs.front is not None:
        before.append(PlainAffine(*signs.front, name=f"{call.name}/signs"))
    if place.causal:
        sides = ((0, 0), (place.columns.before, 0))
        before.append(_layers.ZeroPadding2D(sides, name=f"{call.name}/padding"))
    return before


def _chain(layers: list[Any]) -> Callable[..., Any]:
    if len(layers) == 1:
        return layers[0]

    def run(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return run


def _joined(rows: list[list[Any]], name: str) -> Callable[..., Any]:
    join = _layers.Concatenate(name=f"{name}/groups")
    parts = list(map(_chain, rows))
    return lambda x: join([part(x) for part in parts])


def convolution(
    name: str,
    kernel: BinaryKernel,
    bias: np.ndarray,
    place: Geometry,
    signs: Signs,
    activation: Any,
) -> list[Any]:
    """The layers from the sign to the activation, in a row."""
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
    offset = more * scale + bias
    turn = np.float32(np.sign(signs.factor) * (-1 if padding.differs else 1))
    simple = not (padding.differs or kernel.zero_one)
    conv = BinaryConvolution(
        values * turn,
        scale=scale * abs(signs.factor),
        offset=None if padding.differs else offset,
        last=activation if simple else None,
        filters=values.shape[-1],
        kernel_size=place.kernel_size,
        strides=(place.rows.stride, place.columns.stride),
        dilation_rate=(place.rows.dilation, place.columns.dilation),
        padding="valid" if place.causal else place.columns.padding,
        pad_values=padding.value,
        name=name,
    )
    conv.input_quantizer = signs.quantizer
    row: list[Any] = [conv]
    if padding.differs:
        row.append(ConstantLess(offset, name=f"{name}/border"))
    if kernel.zero_one:
        row.append(PlusLast(name=f"{name}/sum"))
    if not simple and activation is not keras.activations.linear:
        row.append(keras.layers.Activation(activation, name=f"{name}/activation"))
    return row
