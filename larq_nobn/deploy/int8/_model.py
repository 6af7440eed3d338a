"""What a conversion to int8 asks of a model, and does to it."""

from __future__ import annotations

import numpy as np

from ..._keras import keras
from ...graph import (
    Call,
    Graph,
    Operation,
    has_sign_input,
    linear_of,
    sign_of,
    to_keras,
)
from ...layers import FakeQuantization
from ...rewrites import Edit, everywhere, is_shared
from .._errors import ConversionError
from ..prepare import BinaryConvolution, PlainAffine
from ._fake_quantize import KEEPS, ChannelShift

_layers = keras.layers
_REMEDY = "larq_nobn.deploy.fake_quantize(model, data) puts in what is missing."
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
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


def round_kernels(prepared: keras.Model) -> keras.Model:
    """Returns the model with its real-valued kernels rounded as the converter does.

    Scales after a kernel are merged into it first, since they change what a step of
    its channels is worth. Convolutions of all kinds get a scale for each output
    channel; a dense layer and the slopes of a PReLU get only one. Of a rounded kernel
    the converter finds the same scales again.
    """
    graph = everywhere(Graph(prepared), merge_scale)
    for call in graph.calls:
        operation, values = call.operation, {}
        if not issubclass(operation.kind, (BinaryConvolution, *_FLOAT)):
            for name in {*_KERNELS, "alpha"} & operation.arrays.keys():
                axes = _shared_axes(operation, name, call.first_output.shape[-1])
                values[name] = _rounded(operation.arrays[name], axes)
        if values and call.label == graph.uses(call.name)[0].label:
            graph = graph.with_operation(operation.replaced(values))
    return to_keras(graph)


def merge_scale(graph: Graph, call: Call) -> Edit | None:
    """A scale and a bias go into the real-valued kernel before them."""
    before = graph.producer(call.first_input)
    if call.operation.kind is PlainAffine:
        numbers = call.layer.exact
    elif call.operation.kind is ChannelShift:
        numbers = 1.0, call.operation.arrays["shift"]
    else:
        return None
    form = None if before is None else linear_of(before.operation)
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


def _shared_axes(operation: Operation, name: str, channels: int) -> tuple[int, ...]:
    """The axes of a kernel along which all elements have the same scale."""
    rank, form = operation.arrays[name].ndim, linear_of(operation)
    if name == "alpha" or issubclass(operation.kind, keras.layers.Dense):
        return tuple(range(rank))
    if form is None:
        return tuple(range(rank if rank < 4 else rank - 1))
    shape = form.by_output(np.ones(channels)).shape
    shape = (1,) * (rank - len(shape)) + shape
    return tuple(axis for axis, size in enumerate(shape) if size == 1)


def _rounded(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    kernel = kernel.astype(np.float32)
    step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.rint(kernel / np.where(step > 0, step, 1)) * step
