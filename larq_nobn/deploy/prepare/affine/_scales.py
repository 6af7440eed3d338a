"""What only signs read: scales are nothing to them, and offsets may move a little."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...._keras import keras
from ....graph import (
    Call,
    Graph,
    finest_at_signs,
    passage,
    sign_of,
    steps_of,
    threshold_of_affine,
)
from .._inference import BinaryConvolution, PlainAffine
from .._quantizers import SIGNS
from ..rewrites import ConstantLess
from ._numbers import affine_numbers, is_once
from ._steps import steps_behind_prepared, steps_of_sums

_LINEAR = keras.activations.linear
_RISING = (_LINEAR, keras.activations.relu)


def drop_scales(model: keras.Model) -> keras.Model:
    """Leaves the scale out of binary convolutions that only plain signs read.

    So it does where a layer for the border stands behind, whose numbers it divides, and
    an affine layer behind that, whose gain it multiplies.

    It is positive, and a sign forgets it. But in steps of the scale, sums round: those
    of average pools, and those by which LCE takes back what zeros around a map must not
    count. What should be 0 is not, and its sign is noise. In steps of 1 it is 0.

    Arguments:
        model: A prepared model, whose layers are changed in place.
    """
    graph = Graph(model)
    for call in graph.calls:
        if not _has_scale_alone(call) or not is_once(call, graph):
            continue
        border = _sole_behind(call, graph, ConstantLess)
        last = call if border is None else border
        affine = None if border is None else _sole_behind(border, graph, PlainAffine)
        if affine is None and not _read_by_signs(last.outputs, graph):
            continue
        scale = np.asarray(call.layer.scale, np.float64)
        if affine is not None:
            gain, offset = affine_numbers(affine.layer)
            affine.layer.set(gain * scale, offset)
        if border is not None:
            border.layer.divide(scale)
        call.layer.set(1.0, 0.0)
    return model


def clear_thresholds(model: keras.Model) -> keras.Model:
    """Moves what is added before plain signs, so that no sum is 0 by design.

    Of whole numbers times a gain, plus an offset, a sum is 0 in the given model where
    it may be no more than noise here, and LCE divides the two in float32 to find the
    whole number from which on a bit is set. Halfway between two sums rounding is
    nothing.

    Arguments:
        model: A prepared model, whose layers are changed in place.
    """
    graph = Graph(model)
    steps = steps_of(graph, steps_behind_prepared)
    for call in graph.calls:
        layer = call.layer
        before = steps.get(id(call.first_input)) if is_once(call, graph) else None
        if type(layer) is PlainAffine:
            gain = layer.gain
        elif type(layer) is BinaryConvolution and layer.last is _LINEAR:
            gain, before = layer.scale, steps_of_sums(layer, before)
        else:
            continue
        if before is None or gain is None or layer.offset is None:
            continue
        finest = finest_at_signs(graph, call.outputs, before, _is_plain)
        if finest is None:
            continue
        channels = call.outputs.shape[-1:]
        gain, offset = (
            np.broadcast_to(np.asarray(x, np.float64), channels)
            for x in (gain, layer.offset)
        )
        threshold = threshold_of_affine(gain, offset, finest).value
        moves = np.isfinite(threshold)
        moved = -gain * np.where(moves, threshold, 0.0)
        layer.set(gain, np.where(moves, moved, offset))
    return model


def _has_scale_alone(call: Call) -> bool:
    layer = call.layer
    if type(layer) is not BinaryConvolution or layer.scale is None:
        return False
    plain = layer.offset is None and layer.last in _RISING
    return plain and bool(np.all(np.asarray(layer.scale) > 0))


def _sole_behind(call: Call, graph: Graph, kind: type) -> Call | None:
    """The one call that reads another, if it is of a layer of a kind that has no more.

    The model then has no other use of what it reads.
    """
    behind = graph.sole_consumer(call.outputs)
    found = behind is not None and type(behind.layer) is kind
    return behind if found and is_once(behind, graph) else None


def _read_by_signs(tensor: Any, graph: Graph) -> bool:
    """Whether plain signs are all that reads a map, behind what keeps its signs."""
    readers = graph.consumers(tensor)
    if graph.is_output(tensor) or not readers:
        return False
    return all(_is_sign(call.layer) or _hands_on(call, graph) for call in readers)


def _is_sign(layer: keras.layers.Layer) -> bool:
    return _is_plain(getattr(layer, "input_quantizer", None) or sign_of(layer))


def _is_plain(sign: Any) -> bool:
    return type(sign) in SIGNS and getattr(sign, "shift", None) is None


def _hands_on(call: Call, graph: Graph) -> bool:
    joins = type(call.layer) is keras.layers.Concatenate
    last = joins and call.layer.axis in (-1, call.first_output.shape.rank - 1)
    passes = last or (len(call.node.keras_inputs) == 1 and passage(call).gain)
    return passes and is_once(call, graph) and _read_by_signs(call.outputs, graph)
