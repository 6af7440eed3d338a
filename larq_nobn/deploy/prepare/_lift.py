"""Keeps vectors and sequences as maps from one rewritten layer to the next.

A reshape between two binary convolutions would hide one from the other: no bits could
pass, and no gain or shift either.
"""

from __future__ import annotations

from typing import Any

import larq as lq
import tensorflow as tf

from ..._keras import keras
from ...graph import (
    Call,
    Graph,
    Operation,
    Value,
    function_traits,
    is_known_sign,
    sign_of,
    traits,
)

_layers = keras.layers


def lift_to_maps(graph: Graph) -> Graph:
    """Moves reshapes that keep the channels after what does not mind the shape.

    Those that meet the opposite reshape vanish with it.
    """
    if not any(map(_lowers, graph.calls)):
        return graph
    for call in graph.calls:
        # Weights of signs are of gradients, and may be made for one shape.
        if is_known_sign(sign_of(call.layer)) and call.layer.weights:
            plain = Operation(call.name, lq.quantizers.SteSign)
            graph = graph.with_operation(plain)
    maps: dict[int, Any] = {}  # what edges are as maps
    made = {id(edge) for edge in graph.model.inputs}  # those that are there as they are
    same: dict[int, Any] = {}  # those that are others
    found: list[Call] = []

    def plain_edge(edge: Any, name: str) -> Any:
        """An edge in the shape that it has in the given graph."""
        if id(edge) not in made and id(edge) not in same:
            made.add(id(edge))
            reads, shape = maps[id(edge)], tuple(edge.shape[1:])
            name = f"{name}/shape{len(made)}"
            reshape = Operation(name, _layers.Reshape, None, {"target_shape": shape})
            found.append(Call(name, name, reads, edge, None, (reads,), reshape))
        return same.get(id(edge), edge)

    for call in graph.calls:
        lifted: list[Any] = [maps.get(id(edge)) for edge in call.reads]
        given, edge = call, call.first_output
        if _lowers(call):
            if lifted[0] is None:
                lifted[0] = plain_edge(call.first_input, call.name)
            maps[id(edge)] = lifted[0]
        elif _undoes(call, lifted[0] if lifted else None):
            same[id(edge)] = lifted[0]
        elif _passes(call, lifted):
            for before, after in zip(call.reads, lifted, strict=True):
                call = call.reading(before, after)
            maps[id(edge)] = Value(lifted[0], tuple(lifted[0].shape[1:]))
            found.append(call._replace(outputs=maps[id(edge)]))
        else:
            for before in call.reads:
                call = call.reading(before, plain_edge(before, call.name))
            found.append(call)
            made.update(id(x) for x in tf.nest.flatten(call.outputs))
            if _lowers(call, back=True):
                maps.setdefault(id(given.first_input), edge)
    ends = [plain_edge(end, _name_of(graph, end)) for end in graph.outputs]
    return graph.of(found, ends)


def _name_of(graph: Graph, edge: Any) -> str:
    maker = graph.producer(edge)
    return "" if maker is None else maker.name


def _lowers(call: Call, back: bool = False) -> bool:
    """Whether a call makes a vector or a sequence of a map, channel by channel.

    Arguments:
        call: Any.
        back: Whether to ask for the opposite.
    """
    if not traits(call.operation.kind).reshapes:
        return False
    before, after = call.first_input.shape, call.first_output.shape
    if back:
        before, after = after, before
    return before.rank == 4 and after.rank < 4 and before[-1] == after[-1]


def _undoes(call: Call, lifted: Any) -> bool:
    reshape = call.operation.kind is _layers.Reshape and lifted is not None
    return reshape and call.first_output.shape[1:] == lifted.shape[1:]


def _passes(call: Call, lifted: list[Any]) -> bool:
    layer = call.layer
    known = traits(call.operation.kind).elementwise or is_known_sign(sign_of(layer))
    if type(layer) is _layers.Activation:
        known = known or function_traits(layer.activation).elementwise
    if not known or not lifted or any(x is None for x in lifted):
        return False
    return all(x.shape[1:] == lifted[0].shape[1:] for x in lifted)
