"""Keeps vectors and sequences as maps from one rewritten layer to the next.

A reshape between two binary convolutions would hide one from the other: no bits could
pass, and no gain or shift either. What computes the same at each position does not mind
the shape, and a reshape and its opposite do nothing.
"""

from __future__ import annotations

from typing import Any

from ..._keras import keras
from ..._larq import lq
from ...graph import _graph, _kinds, _operation, _signs
from ...rewrites._rule import Edit, rule

_layers = keras.layers


@rule
def reshape_after(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Lets a reshape that keeps the channels follow what does not mind the shape.

    Those that meet the opposite reshape vanish with it, as does one that nothing reads.
    """
    if _lowers(call) and not graph.consumers(call.first_output):
        unread = not graph.is_output(call.first_output)
        return Edit(graph.with_calls({call.label: []})) if unread else None
    maps = [_as_map(graph, call, edge) for edge in call.reads]
    if not maps or any(as_map is None for as_map in maps):
        return None
    shape = tuple(maps[0].shape[1:])
    if call.operation.kind is _layers.Reshape and call.first_output.shape[1:] == shape:
        graph = graph.with_calls({call.label: []})
        return Edit(graph.with_edge(call.first_output, maps[0]))
    if not _is_elementwise(call) or any(x.shape[1:] != shape for x in maps):
        return None
    if _signs.sign_of_layer(call.layer) is not None and call.layer.weights:
        # They are of gradients, and may be made for one shape.
        graph = graph.with_operation(
            _operation.Operation(call.name, lq.quantizers.SteSign)
        )
    edge, after = call.first_output, _graph.NewEdge(maps[0], shape)
    moved = graph.call(call.label)._replace(outputs=after)
    for before, as_map in zip(call.reads, maps, strict=True):
        moved = moved.reading(before, as_map)
    name = f"{call.name}/shape"
    while graph.uses(name):
        name += "_"
    target = {"target_shape": tuple(edge.shape[1:])}
    reshape = _operation.Operation(name, _layers.Reshape, None, target)
    last = _graph.Call(name, name, after, edge, None, (after,), reshape)
    return Edit(graph.with_calls({call.label: [moved, last]}))


def _as_map(graph: _graph.Graph, call: _graph.Call, edge: Any) -> Any:
    """The map that an edge is of, or was made earlier than a call; None for none."""
    maker = graph.producer(edge)
    if maker is not None and _lowers(maker):
        return maker.first_input
    for reader in graph.consumers(edge):
        if reader.label == call.label:
            break
        if _lowers(reader, back=True):
            return reader.first_output
    return None


def _lowers(call: _graph.Call, back: bool = False) -> bool:
    """Whether a call makes a vector or a sequence of a map, channel by channel.

    Arguments:
        call: Any.
        back: Whether to ask for the opposite.
    """
    if not _kinds.traits(call.operation.kind).reshapes:
        return False
    before, after = call.first_input.shape, call.first_output.shape
    if back:
        before, after = after, before
    return before.rank == 4 and after.rank < 4 and before[-1] == after[-1]


def _is_elementwise(call: _graph.Call) -> bool:
    layer = call.layer
    known = _kinds.traits(call.operation.kind).elementwise or _signs.is_known_sign(
        _signs.sign_of_layer(layer)
    )
    if type(layer) is _layers.Activation:
        known = known or _kinds.function_traits(layer.activation).elementwise
    return known
