r"""Rules that make plain binary convolutions, and what every runtime has of these.

LCE knows ±1 that a sign makes, padded with 0 or 1, and a kernel of ±c. With t = ±1, a
map of 0 and 1 is (t + 1) / 2, and a sign that is -1 at 0 is -t of the opposite. What is
affine in t goes into the kernel:

\[ W (k t + b) = (k W) t + W b, \qquad
   W = c\, \frac{S + 1}{2} \;\Rightarrow\; W t = \frac{c}{2} (S t + 1 t) \]

for S of ±1. What pads k t + b with v pads t with (v - b) / k.

Without binary operations, a ±1 kernel is a convolution of real numbers, and a sign a
depthwise convolution that saturates. A scale that is no power of two is one of its own:
as part of the kernel it would make rounding of a sum that is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...graph import _signs
from ._emit import form_of
from ._program import (
    Node,
    Program,
    Rule,
    Value,
    affine,
    channelwise,
    per_channel,
    sign,
)
from ._shapes import padded_apart, passes, zeros_around

# What takes each number for itself, of one map or of several.
_ELEMENTWISE = {
    *("Abs", "Cast", "Erf", "Exp", "Neg", "OnesLike", "Relu", "Relu6", "Sigmoid"),
    *("Sign", "Softplus", "Softsign", "Square", "Tanh", "ZerosLike"),
    *("AddV2", "Maximum", "Minimum", "Mul", "RealDiv", "Select", "SelectV2", "Sub"),
    *("Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual"),
    *("LogicalAnd", "LogicalNot", "LogicalOr"),
}
_COMPARES = ("Greater", "GreaterEqual", "Less", "LessEqual")
_MOST_NODES = 12
# Kernels of x + (q - x) are q but for rounding.
_NEAR = 1e-6


def spell_signs(program: Program) -> Program:
    """Writes functions of two values, which change at a number, as signs for kernels.

    Where the value at that number is that above it, they are of x; else of -x.
    """
    for node in program.nodes:
        if node.kind not in ("other", "sum") or not _is_elementwise(node):
            continue
        if program.maker(node.y) is node and _meets_two_values(program, node):
            program = _with_sign(program, node) or program
    return program


def _with_sign(program: Program, node: Node) -> Program | None:
    for x, inner in _sources(program, node):
        if x.shape != node.y.shape or x.dtype != node.y.dtype:
            continue
        for at in _thresholds_in(program, x, inner):
            low, *_, middle, _, _, high = values = _values(x, inner, node.y, at)
            if np.isnan(values).any() or low == high or middle not in (low, high):
                continue
            if values != [low] * 3 + [middle] + [high] * 3:
                continue
            side, size = (1.0 if middle == high else -1.0), (high - low) / 2
            # As in tanh(x) + tf.stop_gradient(sign(x) - tanh(x)).
            signs = (n for n in inner if n.kind == "sign" and n.x is x)
            known = (n for n in signs if side > 0 and np.all(n["shift"] == -at))
            own, before, made = next(known, None), x.like(), list[Node]()
            if own is None:
                own = sign(node.name, before, x.like(), -side * at)
                own = own.with_arguments(opposite=side < 0)
                made += [affine(f"{node.name}_side", x, side, before), own]
            half = affine(node.name, own.y, side * size, node.y, (low + high) / 2)
            return program.with_nodes([node], [*made, half])
    return None


def _thresholds_in(
    program: Program, x: Value, inner: Sequence[Node]
) -> Iterator[np.ndarray]:
    """Yields 0, and the numbers per channel that a function compares with."""
    yield np.zeros(1)
    for value in {v: None for n in inner if n.type in _COMPARES for v in n.reads}:
        numbers = program.constant(value)
        if numbers is not None and numbers.dtype == x.dtype.as_numpy_dtype:
            each = per_channel(numbers, x.channels)
            if each is not None:
                yield each


def _sources(program: Program, node: Node) -> Iterator[tuple[Value, list[Node]]]:
    """Yields maps of which alone another is a function, with the nodes of that."""
    inner = {node}
    while len(inner) < _MOST_NODES:
        makers = {x: program.maker(x) for n in inner for x in n.reads}
        inner |= {m for m in makers.values() if m is not None and m.kind == "constant"}
        ends = [x for x, maker in makers.items() if maker not in inner]
        if len(ends) == 1:
            yield ends[0], [n for n in program.nodes if n in inner]
        before = {maker for maker in map(program.maker, ends) if maker is not None}
        last = [n for n in program.nodes if n in before and _is_elementwise(n)]
        if not last:
            return
        inner.add(last[-1])


def _is_elementwise(node: Node) -> bool:
    return node.kind in ("sum", "affine", "sign") or node.type in _ELEMENTWISE


def _values(x: Value, inner: Sequence[Node], y: Value, at: np.ndarray) -> list[float]:
    """What a function makes of a few numbers around others; NaN of what differs."""
    form, kind = form_of(Program([x], inner, [y])), x.dtype.as_numpy_dtype
    near = np.maximum(np.abs(np.spacing(at.astype(kind))), 1e-30)
    sizes, made = [size or 1 for size in x.shape or ()], list[float]()
    for away in (-1e9, -1.0, -near, 0.0, near, 1.0, 1e9):
        numbers = np.broadcast_to((at + away).astype(kind), sizes)
        (values,) = form.outputs_of([numbers])
        low, high = float(np.min(values)), float(np.max(values))
        made.append(round(low, 6) if low == high else np.nan)
    return made


def _meets_two_values(program: Program, node: Node) -> bool:
    """Whether a kernel of two values reads a map, perhaps padded or reshaped."""
    ends = program.ends(node.y, lambda x: passes(x) or x.kind == "affine")
    return any(end.kind == "kernel" and _has_two_values(end) for end in ends)


def _has_two_values(kernel: Node) -> bool:
    if kernel["of"] not in ("Conv2D", "MatMul"):
        return False
    split = kernel["binary"] or _signs.split_kernel(kernel["kernel"]) is not None
    return split or _largest_of_zero_one(kernel["kernel"]) is not None


def _largest_of_zero_one(kernel: np.ndarray) -> np.ndarray | None:
    """The other number of each output channel of 0 and one more, all of one sign."""
    near = _NEAR * np.abs(kernel).max()
    for part in (kernel[..., :1], kernel):
        weights = np.abs(part)
        largest = weights.max(axis=tuple(range(weights.ndim - 1)))
        if not np.all((weights <= near) | (largest - weights <= near)):
            return None
    one_sign = kernel.min() >= -near or kernel.max() <= near
    fits = one_sign and np.any(largest) and np.any(weights <= near)
    return largest if fits else None


def pad_signs(program: Program, node: Node) -> Program | None:
    """What pads k t + b with v pads the signs t with (v - b) / k instead.

    The zeros of a "same" convolution are padding of their own, where b is not 0.
    """
    if node.kind != "affine" or not _meets_two_values(program, node):
        return None
    if not program.maker(node.x, "sign") or program.is_output(node.y):
        return None
    if np.ptp(node["k"]) or np.ptp(node["b"]) or not np.all(node["k"]):
        return None
    k, b = node["k"][0], node["b"][0]
    for reader in program.readers(node.y):
        pad = reader if reader.kind == "pad" else zeros_around(reader) if b else None
        if pad is not None:
            inner, value = pad.y.like(), (pad["value"] - b) / k
            ends = pad.with_arguments(value=value).reading(node.y, node.x)
            made = [
                ends.making(inner),
                affine(node.name, inner, node["k"], pad.y, node["b"]),
            ]
            if pad is not reader:
                inside = reader.with_arguments(padding="VALID")
                made.append(inside.reading(node.y, pad.y))
            return program.with_nodes([reader], made)
    return None


def kernel_is_binary(program: Program, node: Node) -> Program | None:
    """A kernel of ±c that reads signs is ±1, times c."""
    known = node.kind == "kernel" and node["of"] in ("Conv2D", "MatMul")
    if not known or node["binary"] or sign_before(program, node.x) is None:
        return None
    split = _signs.split_kernel(node["kernel"])
    if split is None:
        return None
    signs, scale = split
    scale = node["scale"] * scale
    made = node.with_arguments(kernel=signs, scale=scale, binary=True)
    return program.with_nodes([node], [made])


def kernel_of_zero_one(program: Program, node: Node) -> Program | None:
    """A kernel of 0 and c that reads signs is c (S + 1) / 2, for S of ±1.

    One more channel, of ones alone, is added to all. For c < 0 all is the opposite.
    """
    if node.kind != "kernel" or node["groups"] > 1 or not _has_two_values(node):
        return None
    weights, ones = node["kernel"], np.ones_like(node["kernel"][..., :1])
    largest = _largest_of_zero_one(weights)
    if largest is None or sign_before(program, node.x) is None:
        return None
    largest = np.where(largest, largest, 1.0)  # of zeros alone, the sums are 0
    side, is_one = np.sign(weights.sum()), np.abs(weights) > largest / 2
    signs = side * np.concatenate([np.where(is_one, 1.0, -1.0), ones], axis=-1)
    channels = signs.shape[-1]
    sums = Value((*(node.y.shape or ())[:-1], channels), node.y.dtype)
    total, half = node.y.like(), np.full(channels, 0.5)
    changed = {"kernel": signs, "binary": True, "scale": half, "bias": 0 * half}
    made = [
        node.with_arguments(**changed).making(sums),
        Node(f"{node.name}_sum", "plus_last", (sums,), (total,)),
        affine(
            f"{node.name}_scale", total, node["scale"] * largest, node.y, node["bias"]
        ),
    ]
    return program.with_nodes([node], made)


def sign_before(program: Program, value: Value) -> Node | None:
    """The sign of which a value is, perhaps padded or in another shape."""
    node = program.maker(value)
    while node is not None and passes(node):
        node = program.maker(node.x)
    return node if node is not None and node.kind == "sign" else None


def split_groups(program: Program, node: Node) -> Program | None:
    """A binary convolution in groups is one for each, which LCE rejects otherwise.

    Each has a sign of its own, as LCE sees none before a part of the channels.
    """
    if node.kind != "kernel" or node["groups"] == 1:
        return None
    known = _has_two_values(node) and sign_before(program, node.x) is not None
    if not node["binary"] and not known:
        return None
    pads, maker = list[Node](), program.maker(node.x)
    while maker is not None and maker.kind == "pad":
        pads.insert(0, maker)
        maker = program.maker(maker.x)
    source = pads[0].x if pads else node.x
    channels, groups = source.channels or 0, node["groups"]
    own: dict[str, Any] = {"shift": np.zeros(channels)}
    if maker is not None and maker.kind == "sign":
        source, own = maker.x, {"whole": maker.name, **maker.arguments}
    size, filters = channels // groups, len(node["scale"]) // groups
    scope, _, last = node.name.rpartition("/")
    made, ends = list[Node](), list[Value]()
    for i in range(groups):
        name = f"{scope}/{i + 1}/{last}"
        taken, given = (slice(i * n, (i + 1) * n) for n in (size, filters))
        part, value = (_of_channels(source, size) for _ in range(2))
        made.append(Node(f"{name}_part", "channels", (source,), (part,), {"of": taken}))
        numbers = {
            k: np.broadcast_to(x, channels)[taken] if np.ndim(x) else x
            for k, x in own.items()
        }
        made.append(Node(f"{name}_sign", "sign", (part,), (value,), numbers))
        for pad in pads:
            longer = _of_channels(pad.y, size)
            made.append(replace(pad, reads=(value,), makes=(longer,)))
            value = longer
        end = _of_channels(node.y, filters)
        numbers = {n: node[n][..., given] for n in ("kernel", "scale", "bias")}
        one = replace(node, name=name, reads=(value,), makes=(end,))
        made.append(one.with_arguments(**numbers, groups=1))
        ends.append(end)
    made.append(Node(f"{node.name}_groups", "joined", tuple(ends), node.makes))
    return program.with_nodes([node], made)


def _of_channels(value: Value, channels: int) -> Value:
    return Value((*(value.shape or ())[:-1], channels), value.dtype)


BINARY = (pad_signs, kernel_is_binary, kernel_of_zero_one)


def plain_sign(
    program: Program, node: Node, step: float | None = None
) -> Program | None:
    if node.kind != "sign":
        return None
    made = node.with_arguments(step=step, padding=None)
    return program.with_nodes([node], [replace(made, kind="saturating")])


def plain_pad(program: Program, node: Node) -> Program | None:
    """A sign makes the ones around it, of zeros: delegates have no padding by ones."""
    sign = program.maker(node.x, "saturating") if node.kind == "pad" else None
    if sign is None or sign["padding"] is not None:
        return None
    first, *padding, last = node["sides"]
    if node["value"] != 1 or len(padding) != 2 or any((*first, *last)):
        return None
    made = replace(sign.with_arguments(padding=padding), makes=(node.y, *sign.makes))
    return program.with_nodes([sign, node], [made])


def plain_kernel(program: Program, node: Node) -> Program | None:
    """A binary kernel with a scale after it, which is part of it if that is exact."""
    if node.kind != "kernel" or not node["binary"]:
        return None
    scale = node["scale"]
    if np.all(np.frexp(scale)[0] == 0.5):
        return whole_kernel(program, node)
    value = node.y.like()
    signs = node.with_arguments(scale=0 * scale + 1, bias=0 * scale, binary=False)
    scaled = channelwise(f"{node.name}_scale", value, scale, node.y, node["bias"])
    return program.with_nodes([node], [signs.making(value), scaled])


def whole_kernel(program: Program, node: Node) -> Program | None:
    """A binary kernel that contains its scale.

    In int8 that is ±127 times the step of each channel.
    """
    if node.kind != "kernel" or not node["binary"]:
        return None
    scale = node["scale"]
    whole = {"kernel": node["kernel"] * scale, "scale": 0 * scale + 1}
    return program.with_nodes([node], [node.with_arguments(**whole, binary=False)])


PLAIN: tuple[Rule, ...] = (plain_sign, plain_pad, plain_kernel, padded_apart)
