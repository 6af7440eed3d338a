"""Gains and offsets that the layers before them can hold, so that they cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import larq as lq
import numpy as np

from ...._keras import keras
from ....graph import Call, Graph, passage, replace_layers
from .._inference import BinaryConvolution, PlainAffine
from ._numbers import affine_numbers, is_affine, is_once

_layers = keras.layers
# The converter makes a gain and an offset right behind these part of their weights.
_REAL_CONVOLUTIONS = (
    _layers.Conv2D,
    _layers.DepthwiseConv2D,
    lq.layers.QuantConv2D,
    lq.layers.QuantDepthwiseConv2D,
)


def merge_affines(model: keras.Model) -> keras.Model:
    """Makes one layer of two gains and offsets in a row; it has the second's name."""
    graph = Graph(model)
    merged = set()
    for call in graph.calls:
        before = _only_source(call, graph)
        if before is not None and is_affine(call, graph) and is_affine(before, graph):
            (gain, offset), (first, shift) = (
                affine_numbers(c.layer) for c in (call, before)
            )
            call.layer.set(gain * first, gain * shift + offset)
            merged.add(before.name)
    return _rebuilt(model, merged)


def merge_into_convolutions(model: keras.Model) -> keras.Model:
    """Moves gains and offsets into the binary convolution before them.

    They also pass pools on the way, unless a negative gain would make a minimum of a
    maximum. Where the convolution is real-valued, or rectified, they end up right
    behind it, and the converter merges them.

    Arguments:
        model: A prepared model; its layers move into the new one, some of them with
            other weights.
    """
    graph = Graph(model)
    merged: set[str] = set()
    moved: dict[str, PlainAffine] = {}
    for call in graph.calls:
        if not is_affine(call, graph):
            continue
        first = _first_of_pools(call, graph)
        source = _only_source(first, graph)
        if source is None:
            continue
        convs = _groups_of(source, graph)
        if convs:
            _join(convs, call.layer)
            merged.add(call.name)
        elif first is not call and _merges_behind(source.layer):
            merged.add(call.name)
            moved[first.name] = call.layer
    return _rebuilt(model, merged, moved)


def _only_source(call: Call, graph: Graph) -> Call | None:
    """The call that makes the one input of a call, if nothing else reads it."""
    if len(call.node.keras_inputs) != 1:
        return None
    source = graph.producer(call.first_input)
    alone = source is not None and graph.sole_consumer(call.first_input) is call
    return source if alone else None


def _rebuilt(
    model: keras.Model,
    dropped: Collection[str],
    before: Mapping[str, Callable[[Any], Any]] | None = None,
) -> keras.Model:
    """A model without some of its layers, and with others in front of some."""
    if not dropped:
        return model

    def replacement(call: Call) -> Any:
        if call.name in dropped:
            return None
        first = (before or {}).get(call.name)
        return call.layer if first is None else lambda x: call.layer(first(x))

    return replace_layers(model, replacement)


def _first_of_pools(call: Call, graph: Graph) -> Call:
    """The first of the pools before a call that its gain and offset can pass."""
    rising = bool(np.all(affine_numbers(call.layer)[0] >= 0))
    pool = _only_source(call, graph)
    while pool is not None and _lets_through(pool, rising) and is_once(pool, graph):
        call, pool = pool, _only_source(pool, graph)
    return call


def _lets_through(call: Call, rising: bool) -> bool:
    known = passage(call)
    gain = known.gain and (rising or known.negative)
    return gain and known.shift and not known.tiles


def _groups_of(call: Call, graph: Graph) -> list[BinaryConvolution]:
    """The linear binary convolutions that a map is made of, one or side by side.

    Empty if there are others, or one of them is read elsewhere too.
    """
    parts: list[Call | None] = [call]
    if type(call.layer) is _layers.Concatenate and call.layer.axis in (-1, 3):
        inputs = call.node.keras_inputs
        alone = all(graph.sole_consumer(x) is call for x in inputs)
        alone = alone and len({id(x) for x in inputs}) == len(inputs)
        parts = [graph.producer(x) if alone else None for x in inputs]
    found = [
        part.layer
        for part in parts
        if part is not None and _is_linear_binary(part.layer) and is_once(part, graph)
    ]
    return found if len(found) == len(parts) else []


def _is_linear_binary(layer: keras.layers.Layer) -> bool:
    linear = keras.activations.linear
    return type(layer) is BinaryConvolution and layer.last is linear


def _merges_behind(layer: keras.layers.Layer) -> bool:
    """Whether the converter merges a gain and an offset into a layer before them."""
    if type(layer) is BinaryConvolution:
        return layer.merges_behind()
    real = type(layer) in _REAL_CONVOLUTIONS
    return real and layer.activation is keras.activations.linear


def _join(convs: list[BinaryConvolution], affine: PlainAffine) -> None:
    first, channels = 0, sum(conv.filters for conv in convs)
    gains, offsets = (np.broadcast_to(x, channels) for x in affine_numbers(affine))
    for conv in convs:
        own = slice(first, first + conv.filters)
        gain, offset, first = gains[own], offsets[own], own.stop
        scale = np.ones(conv.filters) if conv.scale is None else conv.scale.numpy()
        scale = scale * gain
        if conv.offset is not None:
            offset = gain * conv.offset.numpy() + offset
        # A scale may be 0, but what is negative goes into the signs of the kernel.
        if np.any(scale < 0):
            conv.kernel.assign(conv.kernel * np.where(scale < 0, -1, 1).astype("f4"))
        conv.set(np.abs(scale), np.broadcast_to(offset, scale.shape))
