"""Who reads a map in the end, behind all that a gain per channel passes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...._keras import keras
from ....graph import (
    Call,
    Graph,
    Steps,
    is_channels_last,
    passage,
    sign_of,
    steps_behind,
)
from .._inference import BinaryConvolution, PlainAffine
from .._kinds import REAL_KERNELS
from .._quantizers import SIGNS
from ._numbers import is_once

_layers = keras.layers
_KERNELS = (BinaryConvolution, *REAL_KERNELS)


class Reader(NamedTuple):
    """What reads a map, or a map that is made of it.

    Attributes:
        call: Of the layer.
        sign: If that takes the sign first, the quantizer.
        rising: Whether a maximum or a rectifier between stops a negative gain.
        shifts: Whether an offset passes what is between.
        steps: Those of what it reads, were it not for the gain and its offset.
    """

    call: Call
    sign: Any
    rising: bool = False
    shifts: bool = True
    steps: Steps | None = None


def readers_of(
    tensor: Any, channels: int, graph: Graph, steps: Steps | None
) -> list[Reader] | None:
    """Who reads a map of some channels; None unless all can hold a gain per channel.

    A sign forgets it; a real-valued kernel, or another gain, is multiplied by it.
    """
    if graph.is_output(tensor):
        return None
    found: list[Reader] = []
    for call in graph.consumers(tensor):
        several = len(call.node.keras_inputs) > 1
        # Not `inputs`, which in 2 - x begins with the number.
        last = call.first_input.shape[-1]
        if several or not is_once(call, graph) or last % channels:
            return None
        sign = _sign(call.layer)
        if sign is not None or _holds(call.layer):
            found.append(Reader(call, sign, steps=steps))
            continue
        passed = passage(call)
        if not passed.gain:
            return None
        steps_there = steps_behind(call, [steps])
        behind = readers_of(call.outputs, channels, graph, steps_there)
        if behind is None:
            return None
        found += [
            r._replace(
                rising=r.rising or not passed.negative,
                shifts=r.shifts and passed.shift,
            )
            for r in behind
        ]
    return found


def _sign(layer: keras.layers.Layer) -> Any:
    inside = getattr(layer, "input_quantizer", None)
    sign = inside if type(layer) in _KERNELS else sign_of(layer)
    return sign if type(sign) in SIGNS else None


def _holds(layer: keras.layers.Layer) -> bool:
    """Whether the gains of its input can become part of a layer that has no sign."""
    if type(layer) is PlainAffine:
        return True
    quantizer = getattr(layer, "input_quantizer", None)
    if type(layer) not in _KERNELS or quantizer is not None:
        return False
    padded = getattr(layer, "padding", "valid") == "same"
    ones = padded and np.any(getattr(layer, "pad_values", 0.0))
    return is_channels_last(layer) and getattr(layer, "groups", 1) == 1 and not ones
