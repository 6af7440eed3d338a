"""The signs of a network, as signs of a scale and a shift."""

from __future__ import annotations

from typing import Any

from ..._keras import keras
from ...graph import TRAINING_ONLY, Call, Graph, is_binary, sign_of
from ._walks import QUANTIZED, has_kernel, kernel_name


def quantizer_of(layer: keras.layers.Layer) -> Any:
    """The sign that a layer begins with or is; None where there is none."""
    inner = getattr(layer, "input_quantizer", None)
    return inner if is_binary(inner) else sign_of(layer)


def flippable(graph: Graph, sign: Call) -> list[str] | None:
    """The layers whose kernels can turn the signs of a call around, channel by channel.

    None if something else reads them too, or a kernel does that has other inputs.
    """
    readers = [sign]
    if not has_kernel(sign.layer):
        if graph.is_output(sign.first_output):
            return None
        readers = graph.consumers(sign.first_output)
    found: list[str] = []
    for reader in readers:
        layer = reader.layer
        if isinstance(layer, TRAINING_ONLY):
            further = flippable(graph, reader)
            if further is None:
                return None
            found += further
        elif (
            type(layer) in (*QUANTIZED, *QUANTIZED.values())
            and kernel_name(layer) == "kernel"
            and getattr(layer, "groups", 1) == 1
            and len(graph.uses(reader.name)) == 1
        ):
            found.append(reader.name)
        else:
            return None
    return found
