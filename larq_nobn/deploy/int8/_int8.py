"""What a conversion to int8 asks of a model."""

from __future__ import annotations

from ..._keras import keras
from ...graph import Call, Graph, has_sign_input, sign_of
from ...layers import FakeQuantization
from .._errors import ConversionError
from ._places import KEEPS

_REMEDY = "larq_nobn.deploy.fake_quantize(model, data) puts in what is missing."


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
            f"Model {model.name!r} holds no FakeQuantization, so nothing says which "
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
