"""What a conversion to int8 asks of a model, and does to it."""

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
    has_sign_input,
    kernels_of,
    rebuild,
    replace_layers,
    sign_of,
)
from ...layers import FakeQuantization
from .._errors import ConversionError
from ..prepare import BinaryConvolution, PlainAffine
from ._fake_quantize import KEEPS, ChannelShift

_layers = keras.layers
_REMEDY = "larq_nobn.deploy.fake_quantize(model, data) puts in what is missing."
# TensorFlow Lite has no int8 kernel, or no range for the map between two kernels.
_FLOAT = (_layers.Conv3D, _layers.SeparableConv1D, _layers.SeparableConv2D)


def check_int8(model: keras.Model, int8: bool) -> None:
    """Checks that a model says all ranges if its file is to be int8, and none if not.

    Arguments:
        model: A functional model.
        int8: Whether the file is to be int8.

    Raises:
        ConversionError: With the layer and the remedy.
    """
    graph = Graph(model)
    ranges = [c for c in graph.calls if isinstance(c.layer, FakeQuantization)]
    if not int8:
        if ranges:
            raise ConversionError(
                f"Layer {ranges[0].name!r} is a FakeQuantization, which makes int8 of "
                "what is around it. Pass int8=True, or convert the model without it."
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
        if not all(isinstance(layer, FakeQuantization) for layer in readers):
            raise ConversionError(
                f"Input {given.name!r} of model {model.name!r} does not go into a "
                f"FakeQuantization, so that an int8 file cannot take it. {_REMEDY}"
            )
    _check_outputs(model, graph)
    for call in graph.calls:
        binary = getattr(call.layer, "input_quantizer", None) is not None
        if (binary or sign_of(call.layer) is not None) and not _on_grid(call, graph):
            raise ConversionError(
                f"Layer {call.label!r} takes the sign of what no FakeQuantization has "
                f"rounded, and rounding may turn it. {_REMEDY}"
            )


def _check_outputs(model: keras.Model, graph: Graph) -> None:
    for end in model.outputs:
        for call in graph.consumers(end):
            if has_sign_input(call) or sign_of(call.layer) is not None:
                raise ConversionError(
                    f"Layer {call.label!r} takes the sign of an output of model "
                    f"{model.name!r}, which LCE loses in int8 files. Leave that output "
                    "out."
                )


def _on_grid(call: Call, graph: Graph) -> bool:
    quantizer = getattr(call.layer, "input_quantizer", None) or sign_of(call.layer)
    if getattr(quantizer, "shift", None) is not None:
        return False
    # Each tensor once: the number of paths through maxima grows exponentially.
    left, seen = list(call.node.keras_inputs), set()
    while left:
        tensor = left.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        maker = graph.producer(tensor)
        if maker is None:
            return False
        if isinstance(maker.layer, FakeQuantization) or sign_of(maker.layer):
            continue
        if not isinstance(maker.layer, KEEPS):
            return False
        left += maker.node.keras_inputs
    return True


def without_ranges(model: keras.Model) -> keras.Model:
    """Takes the ranges from a model's layers, which then hand their input on.

    Arguments:
        model: A model of whose layers nobody else knows.
    """
    for layer in model.layers:
        if isinstance(layer, FakeQuantization):
            layer.set_range(0.0, 0.0)
    return model


class _Merged(NamedTuple):
    """A scale and a bias per channel after a layer, and the calls they are from."""

    scale: Any
    bias: Any
    calls: tuple[Call, ...]


def round_kernels(prepared: keras.Model) -> keras.Model:
    """Returns the model with its real-valued kernels rounded as the converter does.

    Scales after a kernel are merged into it first, since they change what a step of
    its channels is worth. Convolutions of all kinds get a scale for each output
    channel; a dense layer and the slopes of a PReLU get only one. Of a rounded kernel
    the converter finds the same scales again.

    Arguments:
        prepared: A prepared model; its layers move into the new one.
    """
    model = _with_merged_scales(prepared)
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


def _with_merged_scales(model: keras.Model) -> keras.Model:
    graph = Graph(model)
    merged = {c.name: found for c in graph.calls if (found := _after(c, graph))}
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


def _after(call: Call, graph: Graph) -> _Merged | None:
    """What stands after a linear layer with a real-valued kernel and a single use."""
    layer, tensor = call.layer, call.first_output
    known = kernels_of(layer) is not None and len(graph.uses(call.name)) == 1
    if not known or layer.activation is not keras.activations.linear:
        return None
    if getattr(layer, "input_quantizer", None) is not None:
        return None
    scale: Any = np.float64(1)
    bias: Any = np.float64(0)
    found: list[Call] = []
    while (reader := graph.sole_consumer(tensor)) is not None:
        if len(graph.uses(reader.name)) != 1:
            break
        if type(reader.layer) is PlainAffine:
            factor, term = reader.layer.exact
        elif type(reader.layer) is ChannelShift:
            factor = np.ones(())
            term = reader.layer.shift.numpy().astype(np.float64)
        else:
            break
        scale, bias = scale * factor, bias * factor + term
        found.append(reader)
        tensor = reader.first_output
    return _Merged(scale, bias, tuple(found)) if found else None


def _fill(new: Any, given: Any, merged: _Merged) -> None:
    kernels = kernels_of(given)
    assert kernels is not None  # or it would not have been merged
    if kernels == SEPARABLE:
        new.depthwise_kernel.assign(given.depthwise_kernel)
    kernel = getattr(given, kernels.last).numpy().astype(np.float64)
    bias = given.bias.numpy().astype(np.float64) if given.use_bias else 0.0
    scale = np.broadcast_to(merged.scale, new.bias.shape)
    if kernels == DEPTHWISE:
        kernel = kernel * scale.reshape(kernel.shape[-2:])
    elif kernels == TRANSPOSED:
        kernel = kernel * scale[:, None]
    else:
        kernel = kernel * scale
    getattr(new, kernels.last).assign(kernel)
    new.bias.assign(np.broadcast_to(bias * scale + merged.bias, scale.shape))
