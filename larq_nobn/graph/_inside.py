"""The layers inside a layer, which no graph shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._keras import keras


def layers_inside(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer holds; of a Lambda, those that its function names.

    Arguments:
        layer: Any layer.

    Returns:
        All of them, those inside others too, in order and each once.
    """
    found = [layer]
    if isinstance(layer, keras.layers.Lambda):
        found += _named(layer)
    inside = [part for each in found for part in (each, *each.submodules)]
    parts = {id(x): x for x in inside if isinstance(x, keras.layers.Layer)}
    del parts[id(layer)]
    return list(parts.values())


def _named(layer: keras.layers.Lambda) -> Iterator[keras.layers.Layer]:
    for value in _values(layer.function, layer.arguments):
        parts = value if isinstance(value, (list, tuple)) else [value]
        yield from (part for part in parts if isinstance(part, keras.layers.Layer))


def _values(function: Any, arguments: dict[str, Any]) -> Iterator[Any]:
    """What a function can use besides its input."""
    yield from (function, getattr(function, "__self__", None), *arguments.values())
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    code = getattr(function, "__code__", None)
    for name in () if code is None else code.co_names:
        yield function.__globals__.get(name)
