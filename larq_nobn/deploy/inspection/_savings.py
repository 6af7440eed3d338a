"""What could still be saved in a file, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._float_fallback import GROUPS, Finding, stayed_float
from ..lite import Operation, Subgraph, in_groups, missed_reach

_RELUS = ("RELU", "RELU6", "RELU_N1_TO_1")
_POOLS = ("MAX_POOL_2D", "AVERAGE_POOL_2D")
# How a sign's input may be scaled and shifted, each by a constant.
_FACTORS = ("MUL", "DIV")
_BIASES = ("ADD", "SUB")
# A float multiplication takes some nine times as long as a binary one on a phone, so
# from this share of all MACs on, float takes about half of the time.
_LARGE_SHARE = 0.1
# Below that, a constant is not worth a line.
_LARGE_CONSTANT = 256


# What a rule says of an operation: a finding, without its period, and a remedy.
_Said = tuple[str, str] | None


def _zero_padding(graph: Subgraph, op: Operation) -> _Said:
    """A sign after a zero-padded convolution, which cannot write bits."""
    reader = graph.only_reader(op) if _pads_with_zeros(op) else None
    if reader is None or reader.op != "LceQuantize" or op.writes_bits:
        return None
    return (
        "Padding with zeros makes it write floats, of which a sign then takes bits",
        f"{_other_padding(op)} Then it writes the bits itself.",
    )


def _relu_after(graph: Subgraph, op: Operation) -> _Said:
    """A ReLU that LCE could not fuse into the convolution before it."""
    reader = graph.only_reader(op) if op.op == "LceBconv2d" else None
    if reader is None or reader.op not in _RELUS or op.inputs[2] is None:
        return None
    scale, bias = (t.values for t in op.inputs[2:4] if t is not None)
    causes, remedies = [], []
    if _pads_with_zeros(op):
        causes.append("zero padding")
        remedies.append(_other_padding(op))
    if np.any(bias != 0):
        causes.append("scale and bias before it")
        remedies.append("Put the ReLU before scale and bias, as in training.")
    elif np.any(scale != 1):
        causes.append("the scale before it")
        same = reader.op == "RELU" and np.all(scale > 0)
        why = ": the values are the same, since it is positive." if same else "."
        remedies.append(f"Put the ReLU before the scale{why}")
    if not causes:
        return None
    said = f"{reader.op} stays an operation, because of {' and '.join(causes)}"
    return said, " ".join(remedies)


def _factor_before_sign(graph: Subgraph, op: Operation) -> _Said:
    """A positive factor that nothing but signs can see."""
    readers = graph.readers(op) if _is_positive_factor(op) else []
    biases = [reader for reader in readers if _is_bias(reader)]
    after = [r for bias in biases for r in graph.readers(bias) or [bias]]
    signs = [r for r in readers if r not in biases] + after
    if not signs or any(sign.op != "LceQuantize" for sign in signs):
        return None
    return (
        f"{op.op} by positive numbers changes no sign, and only signs follow",
        "Divide the bias after it by the factor, and leave the factor out."
        if biases
        else "Leave the factor out.",
    )


def _pool_of_floats(graph: Subgraph, op: Operation) -> _Said:
    """A maximum over floats of which only the signs are used."""
    reader = graph.only_reader(op) if op.op == "MAX_POOL_2D" else None
    if reader is None or reader.op != "LceQuantize":
        return None
    return (
        "It pools floats, of which only the signs are used",
        "Pool bits instead (LceBMaxPool2d): convert for LCE's target 'arm'.",
    )


def _affine_after_pool(graph: Subgraph, op: Operation) -> _Said:
    """A scale or bias that would vanish in the convolution before the pool."""
    pool = graph.before(op)
    if pool is None or pool.op not in _POOLS or graph.only_reader(pool) is not op:
        return None
    convolution = graph.before(pool)
    if convolution is None or convolution.op != "LceBconv2d":
        return None
    affine = _is_positive_factor(op) or _is_bias(op)
    if graph.only_reader(convolution) is not pool or not affine:
        return None
    return (
        f"{op.op} stands after a pool, and a binary convolution before it",
        "Move it before the pool, where it vanishes in the convolution.",
    )


def _signs_of_one_tensor(graph: Subgraph, op: Operation) -> _Said:
    """The same bits, made twice."""
    source = graph.before(op) if op.op == "LceQuantize" else None
    same = graph.readers(source) if source is not None else []
    if sum(other.op == "LceQuantize" for other in same) < 2:
        return None
    return (
        "The sign of one tensor is taken more than once",
        "Take it once, and share it.",
    )


def _idle_bits(graph: Subgraph, op: Operation) -> _Said:
    """Input channels that leave words partly empty."""
    if op.op != "LceBconv2d" or op.options["channels_in"] % 32 == 0:
        return None
    return (
        "Its input channels are no multiple of 32, so part of a word of bits is idle",
        "Give it a multiple of 32 input channels.",
    )


def _odd_outputs(graph: Subgraph, op: Operation) -> _Said:
    """Output channels that LCE's kernels do not divide into equal parts."""
    if op.op != "LceBconv2d" or op.input(1).shape[0] % 8 == 0:
        return None
    return (
        "Its output channels are no multiple of 8, which LCE computes at once",
        "Give it a multiple of 8 output channels.",
    )


def _groups(graph: Subgraph, op: Operation) -> _Said:
    """A binary convolution that LCE's kernels on device reject."""
    if not in_groups(op):
        return None
    return (
        "It is a binary convolution in groups, which LCE's kernels on device reject",
        GROUPS,
    )


def _small_map(graph: Subgraph, op: Operation) -> _Said:
    """A zero-padded convolution on a map smaller than its kernel."""
    if not _pads_with_zeros(op) or op.inputs[0] is None:
        return None
    size, kernel = op.inputs[0].shape[1:3], op.input(1).shape[1:3]
    names = ("dilation_height_factor", "dilation_width_factor")
    reach = missed_reach(size, kernel, [op.options[name] for name in names])
    if reach is None:
        return None
    return (
        f"It pads a {size[0]}x{size[1]} feature map with zeros for a "
        f"{reach[0]}x{reach[1]} kernel, which LCE 0.16 computes wrongly",
        "Convert the model with larq_nobn.convert, which writes a convolution that is "
        "right there, or use larger images.",
    )


def _stayed_float(graph: Subgraph, op: Operation) -> _Said:
    """What was meant to be binary, or is for no more than its price."""
    found = stayed_float(graph, op)
    return None if found is None else found[1:]


def _operand(op: Operation) -> np.ndarray | None:
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


def _is_positive_factor(op: Operation) -> bool:
    """Whether an operation multiplies each channel by a constant above 0."""
    factor = _operand(op) if op.op in _FACTORS else None
    return factor is not None and bool(np.all(factor > 0))


def _is_bias(op: Operation) -> bool:
    """Whether an operation adds a constant to each channel."""
    return op.op in _BIASES and _operand(op) is not None


def _pads_with_zeros(op: Operation) -> bool:
    same = op.op == "LceBconv2d" and op.options["padding"] == 0
    return same and op.options["pad_values"] == 0


def _other_padding(op: Operation) -> str:
    if op.input(1).shape[1:3] == (1, 1):
        return "Use padding='valid', which is the same for a 1x1 kernel."
    return "Train with pad_values=1.0, or convert with one_padding=True."


_RULES = (
    _zero_padding,
    _relu_after,
    _factor_before_sign,
    _pool_of_floats,
    _affine_after_pool,
    _signs_of_one_tensor,
    _idle_bits,
    _odd_outputs,
    _groups,
    _small_map,
    _stayed_float,
)


def savings(graphs: Sequence[Subgraph]) -> list[dict[str, Any]]:
    """Lists what the file shows for certain; equal findings share an entry."""
    found = [
        *(found for graph in graphs for found in _in_graph(graph)),
        *_float_share(graphs),
        *_stored_twice(graphs),
    ]
    where: dict[tuple[str, str], list[str]] = {}
    for layer, finding, remedy in found:
        where.setdefault((f"{finding}.", remedy), []).append(layer)
    return [
        {"layers": list(dict.fromkeys(names)), "finding": finding, "remedy": remedy}
        for (finding, remedy), names in where.items()
    ]


def _in_graph(graph: Subgraph) -> Iterator[Finding]:
    for rule in _RULES:
        for op in graph.operations:
            said = rule(graph, op)
            if said is not None:
                yield Finding(graph.layer(op), *said)


def _float_share(graphs: Sequence[Subgraph]) -> Iterator[Finding]:
    counts: Counter[str] = Counter()
    binary = 0
    for graph in graphs:
        for op in graph.operations:
            if op.kind == "binary":
                binary += op.macs
            elif op.macs:
                counts[graph.layer(op)] += op.macs
    total = sum(counts.values())
    if binary and total > _LARGE_SHARE * (total + binary):
        layer, most = counts.most_common(1)[0]
        yield Finding(
            layer,
            f"{total / (total + binary):.0%} of all multiplications are not binary, "
            f"and {most / total:.0%} of those are here",
            "Give it fewer channels or a larger stride, or split it into groups or "
            "into a depthwise and a 1x1 convolution.",
        )


def _stored_twice(graphs: Sequence[Subgraph]) -> Iterator[Finding]:
    copies: dict[bytes, dict[int, str]] = {}
    for graph in graphs:
        for op in graph.operations:
            for tensor in op.constants:
                if tensor.bytes >= _LARGE_CONSTANT:
                    first = copies.setdefault(bytes(tensor.data or b""), {})
                    first.setdefault(tensor.buffer, graph.layer(op))
    for content, layers in copies.items():
        size = (len(layers) - 1) * len(content)
        for layer in layers.values() if len(layers) > 1 else ():
            yield Finding(
                layer,
                f"Equal constants are stored {len(layers)} times, which takes "
                f"{size / 1e3:,.1f} kB",
                "Convert the model again with LCE 0.16, which stores them once.",
            )
