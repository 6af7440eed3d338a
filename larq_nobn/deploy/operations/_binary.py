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
import tensorflow as tf

from ...graph import _signs
from ..lite._lce_faults import missed_reach
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
    PReLU,
    Reshape,
    Rest,
    SaturatingSign,
    Sides,
    Sign,
    Sum,
    Through,
    Value,
    channelwise,
    per_channel,
)
from ._program import Edit, Origin, Program, Rule, everywhere

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
# The relative rounding error of a whole number in float32.
_ROUNDED = 1e-6


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


_BINARY: tuple[Rule, ...] = (pad_signs, kernel_is_binary, kernel_of_zero_one)


def with_binary(
    program: Program, rules: Sequence[Rule], first: Sequence[Rule] = ()
) -> Program:
    """Applies rules and writes all binary kernels as convolutions of maps, one a group.

    Those of `first` are applied only as long as kernels have their groups.
    """
    program = everywhere(program, (*rules, *first, *_BINARY, pad_last, sign_last))
    return everywhere(program, (split_groups, *_BINARY, spell_dense, *rules))


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


# --- the shapes of maps: LCE's binary kernels are of two dimensions


def spell_dense(program: Program, node: Kernel) -> Edit:
    """Writes a binary dense layer as a 1x1 convolution, with rows as positions."""
    if node.of != "MatMul" or not node.binary:
        return "it is no binary dense layer"
    (rows, inputs), (_, outputs) = node.x.shape or (), node.y.shape or ()
    x = Value((1, 1, rows, inputs), node.x.dtype)
    y = Value((1, 1, rows, outputs), node.y.dtype)
    convolution = replace(node, of="Conv2D", weights=node.weights[None, None])
    made = [
        Reshape(f"{node.name}_map", node.reads, (x,)),
        convolution.between(x, y),
        Reshape(f"{node.name}_vector", (y,), node.makes),
    ]
    return program.with_nodes([node], made)


def before_reshape(program: Program, node: Affine | PReLU | Other) -> Edit:
    """Moves an elementwise operation before a reshape, to the kernel there."""
    if not node.is_a(Affine, PReLU, "Relu"):
        return "it does not take each number for itself"
    shape = program.maker(node.x)
    if shape is None or not shape.keeps_channels:
        return "it reads no reshaped map of the same channels"
    return moved_to_kernel(program, shape, node)


def after_flatten(program: Program, node: Affine) -> Edit:
    """Moves an affine operation past a flatten, to a dense layer or a sign.

    The channels are the last axis: in a row, number j has channel j modulo their count.
    """
    flatten = program.reader(node.y)
    if flatten is None or not flatten.is_reshape or flatten.keeps_channels:
        return "no flatten alone reads it"
    reader = program.reader(flatten.y, Kernel, Sign)
    if reader is None or (isinstance(reader, Kernel) and reader.binary):
        return "no sign or real kernel alone reads the flattened map"
    shape = node.y.shape or ()
    sizes = [size for size in shape[1:] if size]
    rows = (*shape[:1], int(np.prod(sizes)))
    if len(sizes) < len(shape) - 1 or flatten.y.shape != rows:
        return "it is no flatten of known sizes"
    value, times = flatten.y.like(), int(np.prod(sizes[:-1]))
    k, b = (np.tile(numbers, times) for numbers in (node.k, node.b))
    moved = Affine(node.name, (value,), flatten.makes, k, b)
    return program.with_nodes(
        [node, flatten], [flatten.reading(node.y, node.x).making(value), moved]
    )


def moved_to_kernel(program: Program, between: Node, node: Node) -> Edit:
    """Moves a node before the one that it reads, to a kernel that makes only that map.

    The ReLU of a binary kernel will do, too, since LCE has a free scale after it.
    """
    maker = program.sole_maker(between.x, Kernel, "Relu")
    if maker is None or program.reader(node.x) is None:
        return "no kernel makes what only these two read"
    if not isinstance(maker, Kernel) and not is_plain_relu(program, maker):
        return "a ReLU makes that map, and not of sums of a binary kernel alone"
    value = between.x.like()
    moved = node.between(between.x, value)
    after = between.reading(between.x, value).making(node.y)
    return program.with_nodes([between, node], [moved, after])


def is_plain_relu(program: Program, relu: Node) -> bool:
    """Whether a ReLU alone reads a binary kernel without scale or bias."""
    kernel = program.sole_maker(relu.x, Kernel)
    return kernel is not None and kernel.binary and kernel.is_plain


def pad_last(program: Program, node: Reshape | Other) -> Edit:
    """Moves a pad after a reshape that adds an axis, next to a binary kernel."""
    if not node.is_reshape or not _leads_to_binary(program, node):
        return "it is no reshape before a binary kernel"
    before, after = node.x.shape or (), node.y.shape or ()
    pad = program.sole_maker(node.x, Pad)
    places = [i for i, n in enumerate(after) if (*after[:i], *after[i + 1 :]) == before]
    if pad is None or 1 not in (after[i] for i in places):
        return "it adds no axis to a padded map"
    place = next(i for i in places if after[i] == 1)
    sides, shape = list(pad.sides), list(pad.x.shape or ())
    value = Value([*shape[:place], 1, *shape[place:]], pad.x.dtype)
    sides.insert(place, (0, 0))
    expanded = Reshape(node.name, pad.reads, (value,))
    padded = replace(pad, sides=sides, reads=(value,), makes=node.makes)
    return program.with_nodes([pad, node], [expanded, padded])


def sign_last(program: Program, node: Reshape | Other) -> Edit:
    """Moves a sign after a reshape, next to a binary kernel."""
    sign = program.maker(node.x, Sign) if node.is_reshape else None
    if sign is None or not _leads_to_binary(program, node):
        return "it is no reshape of a sign before a binary kernel"
    shift, value, made = sign.shift, sign.x, list[Node]()
    if node.y.channels != node.x.channels:
        if np.any(shift):
            value, name = sign.x.like(), f"{sign.name}_shift"
            made.append(Affine(name, sign.reads, (value,), 1.0, shift))
        shift = 0.0
    moved = node.y.like()
    made += [
        node.reading(node.x, value).making(moved),
        replace(sign, shift=shift, reads=(moved,), makes=node.makes),
    ]
    origin = Origin(node.makes, lambda x: x.reshape(-1, *(sign.y.shape or ())[1:]))
    return program.with_nodes([node], made, origins={sign.y: origin})


def passes_signs(node: Node) -> bool:
    """Whether signs remain signs through a node, whatever it puts around them."""
    idle = isinstance(node, Affine) and node.is_shift and node.is_scale
    return Through.SIGNS in node.through or idle


def _leads_to_binary(program: Program, node: Node) -> bool:
    ends = program.ends(node.y, passes_signs)
    return any(isinstance(end, Kernel) and end.binary for end in ends)


def trim_pad(program: Program, node: Kernel) -> Edit:
    """Trims a pad to what a strided convolution reads.

    On a map of even size, a 3x3 convolution of stride 2 never reads the last row and
    column that padding by 1 adds. LCE takes such padding for that of a "same"
    convolution, which starts elsewhere, and then computes something else.
    """
    pad, known = program.maker(node.x, Pad), node.x.sizes
    if node.padding != "VALID" or pad is None or len(known) < 4:
        return "it reads no padded map of known size"
    sides, shape = list(pad.sides), list(known)
    for axis, reach in enumerate(_reaches(node), 1):
        before, after = sides[axis]
        spare = min((known[axis] - reach) % node.strides[axis], after)
        sides[axis], shape[axis] = (before, after - spare), known[axis] - spare
    if shape == known:
        return "it reads all of the padding"
    less = Value(shape, node.x.dtype)
    name = f"{pad.name}_of_{node.name.rpartition('/')[2]}"
    trimmed = replace(pad, sides=sides, name=name, makes=(less,))
    return program.with_nodes([node], [trimmed, node.reading(node.x, less)])


def padded_apart(program: Program, node: Kernel) -> Edit:
    """Pads a "same" convolution apart if it never reads the end of its map.

    Its kernel is then smaller than its stride along some axis. XNNPACK of TensorFlow
    2.21 starts such a convolution elsewhere: measured, off by 16 of 24 in float32.
    """
    sides = same_sides(node, node.x)
    if sides is None or node.padding != "SAME":
        return 'it is no "same" convolution of a map of known size'
    read, made, strides = node.x.sizes[1:3], node.y.sizes[1:3], node.strides[1:3]
    axes = zip(read, made, strides, _reaches(node), strict=True)
    if all((count - 1) * stride + reach >= n for n, count, stride, reach in axes):
        return "it reads all of its map"
    whole = replace(node, padding="VALID")
    if not np.any(sides):
        return program.with_nodes([node], [whole])
    pad = _zeros(node, sides)
    return program.with_nodes([node], [pad, whole.reading(node.x, pad.y)])


def _reaches(kernel: Kernel) -> list[int]:
    """Returns how many rows and columns a kernel covers."""
    pairs = zip(kernel.weights.shape[:2], kernel.dilations[1:3], strict=True)
    return [(taps - 1) * dilation + 1 for taps, dilation in pairs]


def ones_around(program: Program, node: Kernel) -> Edit:
    """Writes padding of signs as padding by ones, less what the ones add.

    It is for padding by other numbers, for zeros around a map that is smaller than the
    kernel, which LCE computes wrongly, and for several pads in a row.
    """
    if not node.binary or node.of != "Conv2D":
        return "it is no binary convolution"
    same, weights, zeros = node.padding == "SAME", node.weights, zeros_around(node)
    pads = [zeros] if same and zeros else []
    while pad := program.maker(pads[0].x if pads else node.x, Pad):
        pads.insert(0, pad)
    values = {pad.value for pad in pads}
    if not pads or len(pads) == 1 == pads[0].value or len(pads[0].x.sizes) < 4:
        return "it reads no map of known size that is padded with other numbers than 1"
    count, *size, channels = pads[0].x.sizes
    strides, dilations = node.strides[1:3], node.dilations[1:3]
    each = np.sum([pad.sides for pad in pads], axis=0)
    sides = [(int(before), int(after)) for before, after in each]
    small = missed_reach(size, weights.shape[:2], dilations) is not None
    if values == {0.0} and not small and sides == same_sides(node, pads[0].x):
        if same and len(pads) == 1:
            return 'it is a "same" convolution already'
        whole = replace(node, padding="SAME", reads=pads[0].reads)
        return program.with_nodes([node], [whole])
    around = np.zeros((1, *size, channels))
    for pad in pads:
        around = np.pad(around, pad.sides, constant_values=1.0 - pad.value)
    sums = tf.nn.conv2d(around, weights, strides, "VALID", dilations=dilations)
    excess = -sums.numpy()
    padded = Value((count, *around.shape[1:]), node.x.dtype)
    made = Pad(f"{node.name}_ones", pads[0].reads, (padded,), sides, 1.0)
    whole = replace(node, padding="VALID", reads=(padded,))
    if excess.size == excess.shape[-1] or not np.any(excess):  # one for all positions
        bias = node.bias + node.scale * excess[0, 0, 0]
        return program.with_nodes([node], [made, replace(whole, bias=bias)])
    # LCE would merge an added constant into the bias, whatever its shape, and would
    # round scaled sums, of which the rest should be 0.
    total, y = node.y.like(), node.y.like()
    opposite = replace(whole, weights=-weights, scale=1.0, bias=0.0, makes=(y,))
    inner, outer = whole_bias(node)
    less = (excess + inner).astype(np.float32)
    rest = Rest(f"{node.name}_rest", (y,), (total,), less, pads[-1].value)
    scaled = Affine(f"{node.name}_scale", (total,), node.makes, node.scale, outer)
    return program.with_nodes([node], [made, opposite, rest, scaled])


def whole_bias(kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Splits a bias into whole multiples of the scale, as counts, and the rest.

    Added to sums of signs before scaling, whole numbers cause no rounding.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = kernel.bias / kernel.scale
        near = _ROUNDED * np.maximum(np.abs(steps), 1.0)
        whole = np.abs(steps - np.round(steps)) < near
    return np.where(whole, np.round(steps), 0.0), np.where(whole, 0.0, kernel.bias)


def pad_before_sign(program: Program, node: Kernel) -> Edit:
    """Moves a pad of signs by ones before the sign, as padding by a positive number.

    LCE has padding by ones only as that of a "same" convolution.
    """
    pad = program.maker(node.x, Pad)
    sign = None if pad is None else program.maker(pad.x, Sign)
    if pad is None or sign is None or not node.binary or node.padding != "VALID":
        return "it is no binary kernel of padded signs"
    if pad.value != 1 or pad.sides == same_sides(node, pad.x):
        return 'LCE has this padding: by another number than 1, or "same"'
    number = max(0.0, float(-np.min(sign.shift)))
    wide, bits = node.x.like(), node.x.like()
    padded = replace(pad, value=number, reads=sign.reads, makes=(wide,))
    made = replace(sign, name=f"{node.name}_sign").between(wide, bits)
    origin = Origin((bits,), operator.itemgetter(inside(pad.sides)))
    new = [padded, made, node.reading(node.x, bits)]
    return program.with_nodes([node], new, origins={sign.y: origin})


def inside(sides: Sides) -> tuple[slice, ...]:
    """Returns slices that cut the original map out of its padded one."""
    return tuple(slice(before, -after or None) for before, after in sides)


def zeros_around(kernel: Kernel) -> Pad | None:
    """Returns the zeros that a "same" convolution pads with; None for other kernels."""
    sides = same_sides(kernel, kernel.x) if kernel.of == "Conv2D" else None
    known = kernel.padding == "SAME" and sides is not None
    return _zeros(kernel, sides) if known and sides else None


def _zeros(kernel: Kernel, sides: Sides) -> Pad:
    """Returns a pad by zeros of the map that a kernel reads."""
    pairs = zip(kernel.x.sizes, sides, strict=True)
    padded = Value([size + sum(side) for size, side in pairs], kernel.x.dtype)
    return Pad(f"{kernel.name}_ends", kernel.reads, (padded,), sides, 0.0)


def same_sides(kernel: Kernel, x: Value) -> list[tuple[int, int]] | None:
    """Returns TensorFlow's padding of a map for a "same" convolution, if known."""
    if len(x.sizes) < 4:
        return None
    axes, inner = (x.sizes[1:3], kernel.strides[1:3], _reaches(kernel)), []
    for size, stride, reach in zip(*axes, strict=True):
        whole = max((-(-size // stride) - 1) * stride + reach - size, 0)
        inner.append((whole // 2, whole - whole // 2))
    return [(0, 0), *inner, (0, 0)]


PLAIN: tuple[Rule, ...] = (plain_sign, plain_pad, plain_kernel, padded_apart)
