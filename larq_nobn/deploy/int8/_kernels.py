"""Real-valued kernels as an int8 file holds them: gains merged, then 8 bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..._keras import keras
from ...graph import (
    DEPTHWISE,
    SEPARABLE,
    TRANSPOSED,
    Call,
    Graph,
    kernels_of,
    rebuild,
    replace_layers,
)
from ..prepare import BinaryConvolution, PlainAffine
from ..prepare.affine import affine_numbers
from ._shifts import ChannelShift

_layers = keras.layers
# TensorFlow Lite has no int8 kernel, or no range for the map between two kernels.
_FLOAT = (_layers.Conv3D, _layers.SeparableConv1D, _layers.SeparableConv2D)


class _Merged(NamedTuple):
    """A gain and an offset per channel behind a layer, and the calls they are from."""

    gain: Any
    offset: Any
    calls: tuple[Call, ...]


def round_kernels(prepared: keras.Model) -> keras.Model:
    """Returns the model with its real-valued kernels rounded as the converter does.

    Gains behind a kernel are merged into it first, since they change what a step of
    its channels is worth. Convolutions of all kinds get a scale for each output
    channel; a dense layer and the slopes of a PReLU get only one. Of a rounded kernel
    the converter finds the same scales again.

    Arguments:
        prepared: A prepared model; its layers move into the new one.
    """
    model = _with_merged_gains(prepared)
    for layer in model.layers:
        if isinstance(layer, (BinaryConvolution, *_FLOAT)):
            continue
        for name in ("kernel", "depthwise_kernel", "pointwise_kernel", "alpha"):
            variable = getattr(layer, name, None)
            if variable is not None:
                axes = _shared_axes(layer, name, variable.shape.rank)
                variable.assign(_rounded(variable.numpy(), axes))
    return model


def _shared_axes(layer: keras.layers.Layer, name: str, rank: int) -> tuple[int, ...]:
    """The axes of a kernel along which all elements have the same scale."""
    kernels, axes = kernels_of(layer), range(rank)
    if isinstance(layer, _layers.Dense) or name == "alpha":
        return tuple(axes)
    if kernels == DEPTHWISE:
        return tuple(axes[:-2])
    if kernels == TRANSPOSED:
        return (*axes[:-2], rank - 1)
    if kernels is None and rank < 4:
        return tuple(axes)
    return tuple(axes[:-1])


def _rounded(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.rint(kernel / np.where(step > 0, step, 1)) * step


def _with_merged_gains(model: keras.Model) -> keras.Model:
    graph = Graph(model)
    merged = {c.name: found for c in graph.calls if (found := _behind(c, graph))}
    if not merged:
        return model
    gone = {call.name for found in merged.values() for call in found.calls}
    fills = []

    def replacement(call: Call) -> Any:
        if call.name in gone:
            return None
        if call.name not in merged:
            return call.layer
        new = rebuild(call.layer, use_bias=True, name=call.name)
        fills.append(lambda: _fill(new, call.layer, merged[call.name]))
        return new

    new = replace_layers(model, replacement)
    for fill in fills:
        fill()
    return new


def _behind(call: Call, graph: Graph) -> _Merged | None:
    """What stands behind a linear layer with a real-valued kernel and a single use."""
    layer, tensor = call.layer, call.first_output
    known = kernels_of(layer) is not None and len(graph.uses(call.name)) == 1
    if not known or layer.activation is not keras.activations.linear:
        return None
    if getattr(layer, "input_quantizer", None) is not None:
        return None
    gain, offset, found = np.float64(1), np.float64(0), []
    while (reader := graph.sole_consumer(tensor)) is not None:
        if len(graph.uses(reader.name)) != 1:
            break
        if type(reader.layer) is PlainAffine:
            factor, term = affine_numbers(reader.layer)
        elif type(reader.layer) is ChannelShift:
            factor, term = np.float64(1), reader.layer.shift.numpy().astype(np.float64)
        else:
            break
        gain, offset = gain * factor, offset * factor + term
        found.append(reader)
        tensor = reader.first_output
    return _Merged(gain, offset, tuple(found)) if found else None


def _fill(new: Any, given: Any, merged: _Merged) -> None:
    kernels = kernels_of(given)
    assert kernels is not None  # or it would not have been merged
    if kernels == SEPARABLE:
        new.depthwise_kernel.assign(given.depthwise_kernel)
    kernel = getattr(given, kernels.last).numpy().astype(np.float64)
    bias = given.bias.numpy().astype(np.float64) if given.use_bias else 0.0
    gain = np.broadcast_to(merged.gain, new.bias.shape)
    if kernels == DEPTHWISE:
        kernel = kernel * gain.reshape(kernel.shape[-2:])
    elif kernels == TRANSPOSED:
        kernel = kernel * gain[:, None]
    else:
        kernel = kernel * gain
    getattr(new, kernels.last).assign(kernel)
    new.bias.assign(np.broadcast_to(bias * gain + merged.offset, gain.shape))
