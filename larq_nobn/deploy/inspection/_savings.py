"""What stayed float in a `.tflite` file and what could still be saved, and how.

LCE binarizes plain 2D convolutions of signs with ±c, and computes whatever comes close
in float, without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._checks import FloatFallback, Why
from ..lite._file import FileOperation, Subgraph
from ..lite._lce_faults import missed_reach

# A float multiplication takes some nine times as long as a binary one on a device, so
# from this fraction of all MACs on, float takes about half of the time.
_LARGE_SHARE = 0.1
# Where each operation has its input; its filters are always second. The last axis of a
# depthwise filter are the output channels, the first axis of the others.
_INPUTS = {
    "CONV_2D": 0,
    "DEPTHWISE_CONV_2D": 0,
    "FULLY_CONNECTED": 0,
    "TRANSPOSE_CONV": 2,
}
# LCE calls weights ±c if they are that close to it, and so does this file.
_TOLERANCE = 0.005
_BETWEEN = ("MUL", "DIV", "PAD", "PADV2", "MIRROR_PAD", "RESHAPE", "SPACE_TO_BATCH_ND")


def float_in_file(graph: Subgraph) -> Iterator[FloatFallback]:
    """Yields what conversion left in float, with its cost for one run of the file."""
    for op in graph.operations:
        if (between := _before_signs(graph, op)) is not None and _is_binary(op):
            size, name = op.input(1).bytes, graph.layer(op)
            why = _why_float(op, between)
            yield FloatFallback(name, op.op, *why, op.macs, size)


def _before_signs(graph: Subgraph, op: FileOperation) -> list[FileOperation] | None:
    """Returns what stands between a float kernel and a sign, which is last."""
    if op.op not in _INPUTS or len(op.inputs) < 2:
        return None
    filters, between = op.input(1), list[FileOperation]()
    source = graph.before(op, _INPUTS[op.op])
    while source is not None and source.op in _BETWEEN:
        between.append(source)
        source = graph.before(source)
    signs = source is not None and source.op in ("LceDequantize", "SIGN")
    plain = filters.dtype == "float32" and filters.constant
    return [*between, source] if signs and source and plain else None


def _is_binary(op: FileOperation) -> bool:
    """Whether the weights of an operation are ±c, one c per output channel."""
    axis = -1 if op.op == "DEPTHWISE_CONV_2D" else 0
    weights = np.abs(np.moveaxis(op.input(1).values, axis, 0))
    weights = weights.reshape(len(weights), -1)
    first = weights[:, :1]
    return bool(np.all((first > 0) & (abs(weights - first) <= _TOLERANCE * first)))


def _why_float(op: FileOperation, between: list[FileOperation]) -> Why:
    *others, sign = between
    if sign.op == "SIGN":
        return (
            "LCE does not know this sign",
            "Take the sign with larq.math.sign or a quantizer of Larq.",
        )
    if op.op != "CONV_2D":
        return (
            f"LCE has no kernel for a binary {op.op}",
            "Use a QuantConv2D, or leave its input or its kernel unquantized. "
            "larq_nobn.convert writes a QuantDense as a binary convolution of size 1.",
        )
    if others:
        return (
            f"{others[-1].op} stands between the convolution and its sign",
            "Let the sign go straight into the convolution, padded with 1 or not at "
            "all.",
        )
    return (
        "a binary convolution",
        "Convert the model with larq_nobn.convert, which names the cause.",
    )


def savings(graphs: Sequence[Subgraph]) -> list[dict[str, Any]]:
    """Lists what the file shows for certain; equal findings share an entry."""
    where: dict[Why, list[str]] = {}
    macs: Counter[str] = Counter()  # that are not binary
    binary = 0
    for graph in graphs:
        for row in float_in_file(graph):
            said = f"Binary in the model, float in the file: {row.finding}", row.remedy
            where.setdefault(said, []).append(row.layer)
        for op in graph.operations:
            layer = graph.layer(op)
            for said in _of_convolution(graph, op):
                where.setdefault(said, []).append(layer)
            if op.kind == "binary":
                binary += op.macs
            elif op.macs:
                macs[layer] += op.macs
    total = sum(macs.values())
    if binary and total > _LARGE_SHARE * (total + binary):
        layer, most = macs.most_common(1)[0]
        finding = (
            f"{total / (total + binary):.0%} of all multiplications are not binary, "
            f"and {most / total:.0%} of those are here"
        )
        remedy = (
            "Give it fewer channels or a larger stride, or split it into groups or "
            "into a depthwise and a 1x1 convolution."
        )
        where[finding, remedy] = [layer]
    return [
        {"layers": [*dict.fromkeys(names)], "finding": f"{finding}.", "remedy": remedy}
        for (finding, remedy), names in where.items()
    ]


def _of_convolution(graph: Subgraph, op: FileOperation) -> Iterator[Why]:
    """Yields what keeps a convolution of signs from its best, and remedies."""
    if _before_signs(graph, op) is not None and not _is_binary(op):
        yield (
            "Its input is binary and its kernel is not ±c, so it computes in float",
            "Give it a binary kernel_quantizer that never gives 0, such as 'ste_sign', "
            "or leave out the sign before it.",
        )
    if op.op != "LceBconv2d":
        return
    filters, made = op.input(1).shape, op.outputs[0]
    zeros = op.options["padding"] == 0 and op.options["pad_values"] == 0
    readers = [other.op for other in graph.operations if made in other.inputs]
    signed = readers == ["LceQuantize"] and made not in graph.outputs
    if zeros and signed and not op.writes_bits:
        other = "Train with pad_values=1.0."
        if filters[1:3] == (1, 1):
            other = "Use padding='valid', which is the same for a 1x1 kernel."
        yield (
            "Padding with zeros makes it write floats, of which a sign then takes bits",
            f"{other} Then it writes the bits itself.",
        )
    if op.options["channels_in"] % 32:
        yield (
            "Its input channels are not a multiple of 32, so part of a word of bits is "
            "idle",
            "Give it a multiple of 32 input channels.",
        )
    if zeros and op.inputs[0] is not None:
        size, names = op.inputs[0].shape[1:3], ("height", "width")
        dilation = [op.options[f"dilation_{name}_factor"] for name in names]
        reach = missed_reach(size, filters[1:3], dilation)
        if reach is not None:
            yield (
                f"It pads a {size[0]}x{size[1]} feature map with zeros for a "
                f"{reach[0]}x{reach[1]} kernel, which LCE 0.16 computes wrongly",
                "Convert the model with larq_nobn.convert, which writes a convolution "
                "that is right there, or use larger images.",
            )
