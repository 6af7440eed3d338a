"""Compares the binary convolutions of a file with those of its model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..._keras import keras
from ...graph import Call, Graph, has_sign_input, is_binary_convolution
from .._errors import ConversionError
from ..inspection import Chain, Layers, stayed_float
from ..lite import Subgraph

_FLOAT = ("CONV_2D", "DEPTHWISE_CONV_2D")


def check_count(
    graph: Subgraph, layers: Layers, prepared: keras.Model, expected: Sequence[str]
) -> None:
    """Checks that all binary convolutions of a model are such in its file.

    Arguments:
        graph: The file.
        layers: Its layers' names.
        prepared: The model that it was made from.
        expected: The names of the binary convolutions, once for every use.

    Raises:
        ConversionError: It names the layers, and the reason where the file shows it.
    """
    found = sum(op.op == "LceBconv2d" for op in graph.operations)
    if found == len(expected):
        return
    if found > len(expected):
        names = ", ".join(map(repr, _nearly_binary(prepared)))
        where = f", in {names}" if names else ""
        said = (
            f"it takes for signs, or for ±c, what is not quite that{where}. Use "
            "quantizers such as 'ste_sign', or real weights."
        )
    else:
        reasons = list(_stayed(Chain(graph, layers), Graph(prepared), expected))
        said = " ".join(reasons) or (
            f"look at {', '.join(map(repr, expected))}. A sign must go straight into "
            "its convolution, with nothing between."
        )
    raise ConversionError(
        f"LCE found {found} binary convolutions where the model has {len(expected)}: "
        f"{said}"
    )


def _nearly_binary(prepared: keras.Model) -> list[str]:
    return [
        call.label
        for call in Graph(prepared).calls
        if isinstance(call.layer, keras.layers.Conv2D)
        and has_sign_input(call)
        and not is_binary_convolution(call)
    ]


def _stayed(chain: Chain, model: Graph, expected: Sequence[str]) -> Iterator[str]:
    for op in chain.operations:
        name = _convolution(model, chain.layer(op), expected)
        if op.op in _FLOAT and name is not None:
            saving = stayed_float(chain, op)
            said = "" if saving is None else f" {saving.finding} {saving.remedy}"
            yield f"layer {name!r} stayed float.{said}"


def _convolution(model: Graph, last: str, expected: Sequence[str]) -> str | None:
    """The binary convolution that an operation is, of which the last layer is known."""
    uses = model.uses(last)
    if not uses and last in expected:  # of a model whose layers cannot be read
        return last
    call: Call | None = uses[0] if uses else None
    while call is not None and not isinstance(call.layer, keras.layers.Conv2D):
        call = model.producer(call.first_input)
    return call.name if call is not None and call.name in expected else None
