"""Fewer zeros around the maps of strided convolutions."""

from __future__ import annotations

from ..._keras import keras
from ...graph import _graph, _kinds, _operation
from ...rewrites._rule import Edit, rule

_layers = keras.layers


@rule
def trim_padding(graph: _graph.Graph, call: _graph.Call) -> Edit | None:
    """Pads maps only as far as strided convolutions read them.

    On a map of even size, a 3x3 convolution of stride 2 never reads the last of the
    rows and columns that `ZeroPadding2D(1)` adds. LCE takes such padding for that of a
    "same" convolution, which starts elsewhere, and computes something else.
    """
    padded = graph.producer(call.first_input) if call.reads else None
    if padded is None or not _may_leave(call, padded):
        return None
    (top, bottom), (left, right) = padded.layer.padding
    (rows, columns), spare = call.first_input.shape[1:3], []
    sides = zip(
        (rows, columns),
        call.layer.kernel_size,
        call.layer.strides,
        (bottom, right),
        strict=True,
    )
    # Of the zeros at the end, as many rows and columns as are not read.
    spare = [min((side - kernel) % step, end) for side, kernel, step, end in sides]
    if not any(spare):
        return None
    shape = (rows - spare[0], columns - spare[1], call.first_input.shape[-1])
    once = len(graph.uses(padded.name)) == 1
    if once and graph.sole_consumer(padded.first_output) is not None:
        padding = ((top, bottom - spare[0]), (left, right - spare[1]))
        operation = padded.operation.replaced(arguments={"padding": padding})
        less = _graph.NewEdge(padded.first_output, shape)
        new = padded._replace(operation=operation, outputs=less)
        changed = {padded.label: [new], call.label: [call.reading(call.reads[0], less)]}
        return Edit(graph.with_calls(changed))
    # Where others need the padding as it is, the rest is cropped.
    use = graph.uses(call.name).index(call)
    crop = {"cropping": ((0, spare[0]), (0, spare[1]))}
    name = f"{call.name}_crop{use or ''}"
    [first] = _graph.chain(
        call, [_operation.Operation(name, _layers.Cropping2D, None, crop)], [shape]
    )
    first = first._replace(label=name)
    after = call.reading(call.first_input, first.first_output)
    return Edit(graph.with_calls({call.label: [first, after]}))


def _may_leave(call: _graph.Call, padded: _graph.Call) -> bool:
    """Whether a call may leave the end of a padded map unread."""
    if padded.operation.kind is not _layers.ZeroPadding2D:
        return False
    if _kinds.inherited(call.operation.kind).kernels in (None, _kinds.TRANSPOSED):
        return False
    strides = getattr(call.layer, "strides", (1,))  # a dense layer has none
    return max(strides) > 1 and call.layer.padding == "valid"
