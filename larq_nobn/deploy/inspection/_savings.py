"""What could still be saved in a file, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..lite._file import FileOperation, Subgraph
from ..lite._lce_faults import in_groups, missed_reach
from ._stayed_float import GROUPS, stayed_float

# How a sign's input may be scaled and shifted, each by a constant.
_FACTORS = ("MUL", "DIV")
_BIASES = ("ADD", "SUB")
# A float multiplication takes some nine times as long as a binary one on a device, so
# from this fraction of all MACs on, float takes about half of the time.
_LARGE_SHARE = 0.1


def savings(graphs: Sequence[Subgraph]) -> list[dict[str, Any]]:
    """Lists what the file shows for certain; equal findings share an entry."""
    where: dict[tuple[str, str], list[str]] = {}
    macs: Counter[str] = Counter()  # that are not binary
    binary = 0
    for graph in graphs:
        for op in graph.operations:
            layer = graph.layer(op)
            for said in (*_binary(graph, op), *_around(graph, op)):
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


def _binary(graph: Subgraph, op: FileOperation) -> Iterator[tuple[str, str]]:
    """Yields what keeps a binary convolution from its best, and remedies.

    A finding has no period.
    """
    if op.op != "LceBconv2d":
        return
    filters, reader = op.input(1).shape, graph.only_reader(op)
    zeros = op.options["padding"] == 0 and op.options["pad_values"] == 0
    other = "Train with pad_values=1.0: larq_nobn.pad_with_ones changes a model."
    if filters[1:3] == (1, 1):
        other = "Use padding='valid', which is the same for a 1x1 kernel."
    signed = reader is not None and reader.op == "LceQuantize"
    if zeros and signed and not op.writes_bits:
        yield (
            "Padding with zeros makes it write floats, of which a sign then takes bits",
            f"{other} Then it writes the bits itself.",
        )
    relus = ("RELU", "RELU6", "RELU_N1_TO_1")
    if reader is not None and reader.op in relus and op.inputs[2] is not None:
        scale, bias = (t.values for t in op.inputs[2:4] if t is not None)
        causes, remedies = (["zero padding"], [other]) if zeros else ([], [])
        if np.any(bias != 0):
            causes.append("scale and bias before it")
            remedies.append("Put the ReLU before scale and bias, as in training.")
        elif np.any(scale != 1):
            causes.append("the scale before it")
            same = reader.op == "RELU" and np.all(scale > 0)
            why = ": the values are the same, since it is positive." if same else "."
            remedies.append(f"Put the ReLU before the scale{why}")
        if causes:
            said = f"{reader.op} stays an operation, because of {' and '.join(causes)}"
            yield said, " ".join(remedies)
    if op.options["channels_in"] % 32:
        yield (
            "Its input channels are not a multiple of 32, so part of a word of bits is "
            "idle",
            "Give it a multiple of 32 input channels.",
        )
    classes = [end.shape[1:] for end in graph.outputs]  # their number is given
    if filters[0] % 8 and (filters[0],) not in classes:
        yield (
            "Its output channels are not a multiple of 8, which LCE computes at once",
            "Give it a multiple of 8 output channels.",
        )
    if in_groups(op):
        yield (
            "It is a binary convolution in groups, which LCE's kernels on device "
            "reject",
            GROUPS,
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


def _around(graph: Subgraph, op: FileOperation) -> Iterator[tuple[str, str]]:
    """Yields which other operations could be spared, and how."""
    readers = graph.readers(op) if op.outputs else []
    signs = [reader for reader in readers if reader.op == "LceQuantize"]
    if _is_factor(op):
        biases = [reader for reader in readers if _is_bias(reader)]
        last = [r for bias in biases for r in graph.readers(bias) or [bias]]
        last += [reader for reader in readers if reader not in biases]
        if last and all(reader.op == "LceQuantize" for reader in last):
            yield (
                f"{op.op} by positive numbers changes no sign, and only signs follow",
                "Divide the bias after it by the factor, and leave the factor out."
                if biases
                else "Leave the factor out.",
            )
    if op.op == "MAX_POOL_2D" and len(signs) == len(readers) == 1:
        yield (
            "It pools floats, of which only the signs are used",
            "Pool bits instead (LceBMaxPool2d): convert for LCE's target 'arm'.",
        )
    pool = graph.before(op) if _is_factor(op) or _is_bias(op) else None
    pools = ("MAX_POOL_2D", "AVERAGE_POOL_2D")
    if pool is not None and pool.op in pools and graph.only_reader(pool) is op:
        convolution = graph.before(pool)
        binary = convolution is not None and convolution.op == "LceBconv2d"
        if binary and convolution and graph.only_reader(convolution) is pool:
            yield (
                f"{op.op} stands after a pool, and a binary convolution before it",
                "Move it before the pool, where it vanishes in the convolution.",
            )
    stayed = stayed_float(graph, op)
    if stayed is not None:
        yield stayed


def _operand(op: FileOperation) -> np.ndarray | None:
    """Returns the constant of x * c, x + c, x / c or x - c, if each channel has one."""
    constants = op.constants
    if op.op not in (*_FACTORS, *_BIASES) or len(constants) != 1:
        return None
    constant = constants[0]
    if op.op in ("DIV", "SUB") and op.inputs[0] is constant:
        return None
    plain = constant.dtype == "float32" and not constant.sparse
    channelwise = all(size == 1 for size in constant.shape[:-1])
    fused = op.options.get("fused_activation_function", 0)
    return constant.values if plain and channelwise and not fused else None


def _is_factor(op: FileOperation) -> bool:
    """Whether an operation multiplies each channel by a constant above 0."""
    factor = _operand(op) if op.op in _FACTORS else None
    return factor is not None and bool(np.all(factor > 0))


def _is_bias(op: FileOperation) -> bool:
    return op.op in _BIASES and _operand(op) is not None
