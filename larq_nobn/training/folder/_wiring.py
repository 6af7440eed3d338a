"""Whether the layers of a configuration can be called one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def never_called(config: object) -> str | None:
    """Returns a layer that waits for what no layer gives, if there is one.

    Keras builds a functional model in passes over its layers, and makes passes for ever
    then.

    Arguments:
        config: The configuration of anything.
    """
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        return None
    layers = [each for each in config["layers"] if isinstance(each, dict)]
    if "input_layers" not in config:
        return None
    if not all(isinstance(each.get("name"), str) for each in layers):
        return None
    names: list[str] = [each["name"] for each in layers]
    first = {name: _first_call(each) for name, each in zip(names, layers, strict=True)}
    calls = {name: 0 for name in names}
    waiting: dict[str, list[Any]] = {name: [] for name in names}
    for each in layers:
        waiting[each["name"]] += each.get("inbound_nodes") or []

    def is_there(call: list[Any]) -> bool:
        name, place = call[:2]
        known = first.get(name)
        if known is None:  # an input, or a name that Keras does not know
            return True
        least, most = known
        return calls[name] > 0 and place in range(least, most + calls[name])

    going_on = True
    while going_on:
        going_on = False
        for name, nodes in waiting.items():
            while nodes and all(map(is_there, _calls(nodes[0]))):
                nodes.pop(0)
                calls[name] += 1
                going_on = True
    return next((name for name, nodes in waiting.items() if nodes), None)


def _first_call(layer: dict[str, Any]) -> tuple[int, int] | None:
    """The number of the first call that a configuration can speak of: least and most.

    A model with an input was called when it was made; whether one without has an input
    is seen when it is built.
    """
    if layer.get("class_name") == "InputLayer":
        return None
    inner = layer.get("config")
    inside = inner.get("layers") if isinstance(inner, dict) else inner
    if not isinstance(inside, list):
        return 0, 0
    own = layer.get("class_name") in ("Functional", "Model", "Sequential")
    first = inside[0] if inside and isinstance(inside[0], dict) else {}
    return int(own and first.get("class_name") == "InputLayer"), 1


def _calls(node: object) -> Iterator[list[Any]]:
    """The calls of other layers that a call waits for: name, number of the call, ..."""
    if isinstance(node, list):
        if len(node) in (3, 4) and isinstance(node[0], str):
            if node[0] != "_CONSTANT_VALUE":
                yield node
            node = node[3:]
        for each in node:
            yield from _calls(each)
    elif isinstance(node, dict):
        for each in node.values():
            yield from _calls(each)
