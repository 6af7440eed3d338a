r"""Rules that write binary convolutions in the few forms that runtimes have.

LCE knows signs of ±1, padded with 0 or 1, and kernels of ±c. With t = ±1, a map of 0
and 1 is (t + 1) / 2, and a sign of x that is -1 at 0 is minus the sign of -x. An affine
function of t is absorbed by the kernel:

\[ W (k t + b) = (k W) t + W b, \qquad
   W = c\, \frac{S + 1}{2} \;\Rightarrow\; W t = \frac{c}{2} (S t + 1 t) \]

for S of ±1. Padding k t + b with v is padding t with (v - b) / k.

Without binary operations, a ±1 kernel becomes a convolution of real numbers, and a sign
a depthwise convolution that saturates. A scale that is no power of two stays separate:
as part of the kernel it would turn a sum of 0 into rounding noise.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ...graph import _signs
from ._emit import form_of
from ._kinds import (
    Affine,
    Constant,
    Joined,
    Kernel,
    Node,
    Other,
    Pad,
    Part,
    PlusLast,
    SaturatingSign,
    Sign,
    Sum,
    Value,
    channelwise,
    per_channel,
)
from ._program import Edit, Origin, Program, Rule
from ._shapes import inside, padded_apart, passes_signs, whole_bias, zeros_around

# Elementwise operations, of one map or of several.
_ELEMENTWISE = {
    *("Abs", "Cast", "Erf", "Exp", "Neg", "OnesLike", "Relu", "Relu6", "Sigmoid"),
    *("Sign", "Softplus", "Softsign", "Square", "Tanh", "ZerosLike"),
    *("AddV2", "Maximum", "Minimum", "Mul", "RealDiv", "Select", "SelectV2", "Sub"),
    *("Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual"),
    *("LogicalAnd", "LogicalNot", "LogicalOr"),
}
COMPARES = ("Greater", "GreaterEqual", "Less", "LessEqual")
_MOST_NODES = 12
# Kernels of x + (q - x) are q up to rounding of this relative size.
_NEAR = 1e-6


def spell_signs(program: Program) -> Program:
    """Writes functions that step between two values, before kernels, as signs.

    It is the sign of x if the value at the step is that above it, else the sign of -x.
    """
    for node in program.nodes:
        if not node.is_a(Sum, Other) or not _is_elementwise(node):
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
            # An example is tanh(x) + tf.stop_gradient(sign(x) - tanh(x)).
            signs = (n for n in inner if isinstance(n, Sign) and n.x is x)
            known = (n for n in signs if side > 0 and np.all(n.shift == -at))
            own, before, made = next(known, None), x.like(), list[Node]()
            if own is None:
                own = Sign(node.name, (before,), (x.like(),), -side * at)
                made += [Affine(f"{node.name}_side", (x,), (before,), side), own]
            middle = (low + high) / 2
            half = Affine(node.name, own.makes[:1], node.makes, side * size, middle)
            origin = Origin(own.makes, partial(np.multiply, side))
            return program.with_nodes([node], [*made, half], origins={node.y: origin})
    return None


def _thresholds_in(
    program: Program, x: Value, inner: Sequence[Node]
) -> Iterator[np.ndarray]:
    """Yields 0, and the numbers per channel that a function compares x with."""
    yield np.zeros(1)
    for value in {v: None for n in inner if n.type in COMPARES for v in n.reads}:
        numbers = program.constant(value)
        if numbers is not None and numbers.dtype == x.dtype.as_numpy_dtype:
            each = per_channel(numbers, x.channels)
            if each is not None:
                yield each


def _sources(program: Program, node: Node) -> Iterator[tuple[Value, list[Node]]]:
    """Yields maps that alone determine a node's output, with the nodes between."""
    inner = {node}
    while len(inner) < _MOST_NODES:
        makers = {x: program.maker(x) for n in inner for x in n.reads}
        inner |= {m for m in makers.values() if isinstance(m, Constant)}
        ends = [x for x, maker in makers.items() if maker not in inner]
        if len(ends) == 1:
            yield ends[0], [n for n in program.nodes if n in inner]
        before = {m for m in map(makers.get, ends) if m is not None}
        last = [n for n in program.nodes if n in before and _is_elementwise(n)]
        if not last:
            return
        inner.add(last[-1])


def _is_elementwise(node: Node) -> bool:
    return node.is_a(Sum, Affine, Sign, *_ELEMENTWISE)


def _values(x: Value, inner: Sequence[Node], y: Value, at: np.ndarray) -> list[float]:
    """Returns a function's values around `at`; NaN where they vary over a map."""
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
    ends = program.ends(node.y, lambda x: passes_signs(x) or isinstance(x, Affine))
    return any(isinstance(end, Kernel) and _has_two_values(end) for end in ends)


def _has_two_values(kernel: Kernel) -> bool:
    if kernel.is_depthwise:
        return False
    split = kernel.binary or _signs.split_kernel(kernel.weights) is not None
    return split or _largest_of_zero_one(kernel.weights) is not None


def _largest_of_zero_one(kernel: np.ndarray) -> np.ndarray | None:
    """Returns |c| of each output channel if weights are 0 and c, else None."""
    near = _NEAR * np.abs(kernel).max()
    for part in (kernel[..., :1], kernel):
        weights = np.abs(part)
        largest = weights.max(axis=tuple(range(weights.ndim - 1)))
        if not np.all((weights <= near) | (largest - weights <= near)):
            return None
    one_sign = kernel.min() >= -near or kernel.max() <= near
    fits = one_sign and np.any(largest) and np.any(weights <= near)
    return largest if fits else None


def pad_signs(program: Program, node: Affine) -> Edit:
    """Pads the signs t with (v - b) / k instead of padding k t + b with v.

    Where b is not 0, the zeros of a "same" convolution become such a pad, too.
    """
    if not _meets_two_values(program, node):
        return "no kernel of two values reads it"
    if sign_before(program, node.x) is None or program.is_output(node.y):
        return "it is an output, or not of signs"
    if np.ptp(node.k) or np.ptp(node.b) or not np.all(node.k):
        return "it has several numbers, or 0 as a factor"
    k, b = node.k[0], node.b[0]
    for reader in program.readers(node.y):
        pad = reader if isinstance(reader, Pad) else None
        if isinstance(reader, Kernel) and b:
            pad = zeros_around(reader)
        if pad is not None:
            inner = pad.y.like()
            made: list[Node] = [
                replace(pad, value=(pad.value - b) / k).between(node.x, inner),
                Affine(node.name, (inner,), pad.makes, node.k, node.b),
            ]
            if isinstance(reader, Kernel):
                inside = replace(reader, padding="VALID")
                made.append(inside.reading(node.y, pad.y))
            return program.with_nodes([reader], made)
    return "nothing pads it"


def kernel_is_binary(program: Program, node: Kernel) -> Edit:
    """Writes a kernel of ±c that reads signs as one of ±1 with scale c."""
    if node.binary or node.is_depthwise or sign_before(program, node.x) is None:
        return "it is binary already, depthwise, or reads no signs"
    split = _signs.split_kernel(node.weights)
    if split is None:
        return "its weights are not ±c"
    signs, scale = split
    made = replace(node, weights=signs, scale=node.scale * scale, binary=True)
    return program.with_nodes([node], [made])


def kernel_of_zero_one(program: Program, node: Kernel) -> Edit:
    """Writes a kernel of 0 and c that reads signs as c (S + 1) / 2, for S of ±1.

    One more channel, with weights of 1, is added to all others; c < 0 negates all.
    """
    if node.groups > 1 or node.is_depthwise or sign_before(program, node.x) is None:
        return "it reads no signs, or in groups"
    weights, ones = node.weights, np.ones_like(node.weights[..., :1])
    largest = _largest_of_zero_one(weights)
    if largest is None:
        return "its weights are not 0 and c"
    largest = np.where(largest, largest, 1.0)  # all-zero filters give sums of 0
    side, is_one = np.sign(weights.sum()), np.abs(weights) > largest / 2
    signs = side * np.concatenate([np.where(is_one, 1.0, -1.0), ones], axis=-1)
    sums, total = node.y.of_channels(signs.shape[-1]), node.y.like()
    halves = replace(
        node, weights=signs, binary=True, scale=0.5, bias=0.0, makes=(sums,)
    )
    scale, name = node.scale * largest, f"{node.name}_scale"
    made = [
        halves,
        PlusLast(f"{node.name}_sum", (sums,), (total,)),
        Affine(name, (total,), node.makes, scale, node.bias),
    ]
    return program.with_nodes([node], made)


def sign_before(program: Program, value: Value) -> Sign | None:
    """Returns the sign that a value is, perhaps padded or reshaped; else None."""
    node = program.maker(value)
    while node is not None and passes_signs(node):
        node = program.maker(node.x)
    return node if isinstance(node, Sign) else None


def split_groups(program: Program, node: Kernel) -> Edit:
    """Writes a binary convolution in groups, which LCE rejects, as one per group.

    Each has its own sign, since LCE finds no sign before a slice of the channels.
    """
    if node.groups == 1:
        return "it has no groups"
    known = _has_two_values(node) and sign_before(program, node.x) is not None
    if not node.binary and not known:
        return "it is no kernel of two values that reads signs"
    pads, maker = list[Pad](), program.maker(node.x)
    while isinstance(maker, Pad):
        pads.insert(0, maker)
        maker = program.maker(maker.x)
    source = pads[0].x if pads else node.x
    sign = maker
    if not isinstance(sign, Sign):
        sign = Sign(node.name, (source,), (source,))
    groups = [list(_group(node, pads, sign, i)) for i in range(node.groups)]
    ends = tuple(group[-1].y for group in groups)
    joined = Joined(f"{node.name}_groups", ends, node.makes)
    signs = tuple(group[1].y for group in groups)
    origin = Origin(signs, lambda *parts: np.concatenate(parts, -1))
    made = [*(part for group in groups for part in group), joined]
    return program.with_nodes([node], made, origins={sign.y: origin})


def _group(
    node: Kernel, pads: Sequence[Pad], sign: Sign, number: int
) -> Iterator[Node]:
    """Yields the nodes of one group: its channels, their sign, its pads and kernel."""
    scope, _, last = node.name.rpartition("/")
    source, name = sign.x, f"{scope}/{number + 1}/{last}"
    channels = source.channels or 0
    size, filters = channels // node.groups, len(node.scale) // node.groups
    taken, made = (slice(number * n, (number + 1) * n) for n in (size, filters))
    part, value = source.of_channels(size), source.of_channels(size)
    yield Part(f"{name}_part", (source,), (part,), (..., taken))
    own = replace(sign, makes=(value,), shift=sign.shift[taken])
    yield replace(own, name=f"{name}_sign", reads=(part,))
    for pad in pads:
        longer = pad.y.of_channels(size)
        yield pad.between(value, longer)
        value = longer
    numbers = {n: getattr(node, n)[..., made] for n in ("weights", "scale", "bias")}
    end = node.y.of_channels(filters)
    one = replace(node, name=name, reads=(value,), makes=(end,), groups=1, **numbers)
    yield replace(one, part_of=node.name)


BINARY: tuple[Rule, ...] = (pad_signs, kernel_is_binary, kernel_of_zero_one)


def plain_sign(program: Program, node: Sign, step: float | None = None) -> Edit:
    made = SaturatingSign(node.name, node.reads, node.makes, node.shift, step)
    return program.with_nodes([node], [made])


def plain_pad(program: Program, node: Pad) -> Edit:
    """Pads with zeros before a sign, not ones after it, which delegates cannot do."""
    sign = program.maker(node.x, SaturatingSign)
    if sign is None or sign.padding is not None:
        return "it is not of signs without a border"
    first, *padding, last = node.sides
    if node.value != 1 or len(padding) != 2 or any((*first, *last)):
        return "it is not by ones around the rows and columns of a map"
    made = replace(sign, padding=padding).making(node.y)
    part = Part(sign.name, made.makes, sign.makes, inside(node.sides))
    origin = Origin(made.makes, operator.itemgetter(part.of))
    return program.with_nodes([sign, node], [made, part], origins={sign.y: origin})


def plain_kernel(program: Program, node: Kernel) -> Edit:
    """Writes a binary kernel as a real one; an inexact scale follows separately."""
    if not node.binary or np.all(np.frexp(node.scale)[0] == 0.5):
        return whole_kernel(program, node)
    value, name = node.y.like(), f"{node.name}_scale"
    inner, outer = whole_bias(node)
    signs = replace(node, scale=1.0, bias=inner, binary=False, makes=(value,))
    scaled = channelwise(name, value, node.scale, node.y, outer)
    return program.with_nodes([node], [signs, scaled])


def whole_kernel(program: Program, node: Kernel) -> Edit:
    """Writes a binary kernel as a real one that contains its scale.

    In int8, its weights are ±127 times each channel's step.
    """
    if not node.binary:
        return "it is not binary"
    weights = node.weights * node.scale
    made = replace(node, weights=weights, scale=1.0, binary=False)
    return program.with_nodes([node], [made])


PLAIN: tuple[Rule, ...] = (plain_sign, plain_pad, plain_kernel, padded_apart)
