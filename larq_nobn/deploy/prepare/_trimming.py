"""Pads maps only as far as strided convolutions read them.

On a map of even size, a 3x3 convolution of stride 2 never reads the last of the rows
and columns that `ZeroPadding2D(1)` adds. LCE takes such padding for that of a "same"
convolution, which starts elsewhere, and computes something else.
"""

from __future__ import annotations

from typing import Any

from ..._keras import keras
from ...graph import Call, Graph, rebuild, replace_calls

_layers = keras.layers
_STRIDED = (_layers.Conv2D, _layers.DepthwiseConv2D, _layers.SeparableConv2D)


def trim_padding(model: keras.Model) -> keras.Model:
    """Drops rows and columns of zeros that no convolution reads."""
    graph = Graph(model)
    changed: dict[str, Any] = {}
    for call in graph.calls:
        padded = graph.producer(call.first_input)
        if padded is None or not _may_leave(call, padded):
            continue
        spare = _spare(call, padded.layer.padding)
        if not any(spare):
            continue
        once = len(graph.uses(padded.name)) == 1
        if once and graph.sole_consumer(padded.first_output) is not None:
            (top, bottom), (left, right) = padded.layer.padding
            padding = ((top, bottom - spare[0]), (left, right - spare[1]))
            changed[padded.label] = rebuild(padded.layer, padding=padding)
        else:
            changed[call.label] = _cropped(call, graph, spare)
    if not changed:
        return model
    return replace_calls(model, lambda call: changed.get(call.label, call.layer))


def _may_leave(call: Call, padded: Call) -> bool:
    """Whether a call may leave the end of a padded map unread."""
    layer = call.layer
    strided = isinstance(layer, _STRIDED) and max(layer.strides) > 1
    plain = strided and layer.padding == "valid"
    return plain and type(padded.layer) is _layers.ZeroPadding2D


def _spare(call: Call, padding: Any) -> tuple[int, int]:
    """How many rows and columns of zeros are not read, of those at the end."""
    layer, size = call.layer, call.first_input.shape[1:3]
    rows, columns = (
        min((side - kernel) % stride, after)
        for side, kernel, stride, (_, after) in zip(
            size, layer.kernel_size, layer.strides, padding, strict=True
        )
    )
    return rows, columns


def _cropped(call: Call, graph: Graph, spare: tuple[int, int]) -> Any:
    """The layer after a crop, where others need the padding as it is."""
    rows, columns = spare
    use = graph.uses(call.name).index(call)
    name = f"{call.name}_crop{use or ''}"
    crop = _layers.Cropping2D(((0, rows), (0, columns)), name=name)
    return lambda x: call.layer(crop(x))
