r"""Local rules: each rewrites a few operations into fewer that compute the same.

With numbers per channel k and b, an affine operation is y = k x + b. Kernels, signs and
other affine operations absorb it (`_kinds.py`). A positively homogeneous function f
(ReLU, PReLU) has f(k x) = k f(x) for k > 0. Pools, means and concatenations let k > 0
and b pass, and k u + w is k (u + w / k). LCE makes a scale and a bias after a kernel of
±1 part of its binary convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ...graph import _thresholds
from ._binary import (
    COMPARES,
    PLAIN,
    after_flatten,
    before_reshape,
    is_plain_relu,
    moved_to_kernel,
    ones_around,
    pad_before_sign,
    pad_last,
    sign_last,
    trim_pad,
    whole_bias,
    with_binary,
    zeros_around,
)
from ._kinds import (
    Affine,
    Clip,
    Constant,
    Copy,
    Joined,
    Kernel,
    Levels,
    Node,
    Other,
    Pad,
    PReLU,
    Range,
    Reshape,
    Sign,
    Sum,
    Through,
    Value,
)
from ._program import Edit, Origin, Program, Rule, everywhere

_HOMOGENEOUS = (PReLU, "Relu", "LeakyRelu")
_POOLS = ("MaxPool", "AvgPool")
_SIGNS = (Sign, "Sign")
# LCE fuses these operations into a binary convolution before them.
_FUSED = (Sum, "Mul", "AddV2", "Add", "Sub", "RealDiv")
# Factors between these keep float32 numbers away from overflow and underflow.
_LEAST_FACTOR, _MOST_FACTOR = 2.0**-20, 2.0**20
# A shift this many times larger than a map costs two of float32's seven digits.
_FAR = 100.0
# Tolerance for a threshold halfway between two whole numbers, rounded in float64.
_HALFWAY = 1e-6


def reduced(program: Program) -> Program:
    """Returns a program of the same function with fewer operations."""
    program = with_binary(program, RULES)
    rules, moves = (*RULES, scale_into_all), (scale_into_all, affine_into_parts)
    program = _cheaper(program, Affine, moves, rules)
    program = _cheaper(program, Sign, (shift_into_maker,), RULES)
    last = (clear_threshold, drop_scale, pad_last, sign_last, trim_pad)
    return everywhere(program, last)


def spelled(program: Program, runtime: str) -> Program:
    """Returns the program in the form that the converter of a runtime expects."""
    last: tuple[Rule, ...] = (ones_around, pad_before_sign, sign_of_signs)
    last += (compare_sum_with_sign, keep_apart, scale_apart)
    last = {"litert": PLAIN, "c": (odd_pad,)}.get(runtime, last)
    return everywhere(program, (spell_levels, *last))


def odd_pad(program: Program, node: Kernel) -> Edit:
    """Pads by ones and corrects the sums, where C has no padding by that number."""
    pad = program.maker(node.x, Pad)
    if pad is None or pad.value in (0, 1, -1):
        return "C has such padding"
    return ones_around(program, node)


def spell_levels(program: Program, node: Range | Other) -> Edit:
    """Writes rounding to a few numbers as float operations, in a file of floats.

    A converter would turn a pad before it into int8, and round the padding too.
    """
    if isinstance(node, Range):
        low, high, count = node.low, node.high, 255
    elif node.type == "FakeQuantWithMinMaxArgs":
        names = ("min", "max", "num_bits", "narrow_range")
        low, high, bits, narrow = (node.op.get_attr(name) for name in names)
        count = 2**bits - 1 - narrow
    else:
        return "it rounds to no numbers that are known"
    step = np.float32(high - low) / np.float32(count)
    # The lowest number is moved so that 0 is one of them, as TensorFlow does.
    zero = np.float32(np.clip(np.floor(0.5 - np.float32(low) / step), 0, count))
    ends = -zero * step, np.float32(count - zero) * step
    spelled = Levels(node.name, node.reads[:1], node.makes, *ends, step, zero)
    return program.with_nodes([node], [spelled])


def identity_goes(program: Program, node: Affine | Pad) -> Edit:
    if isinstance(node, Pad):
        idle = not np.any(node.sides)
    else:
        idle = node.is_scale and node.is_shift
    return program.replace(node.y, node.x) if idle else "it changes its input"


def into_maker(program: Program, node: Affine) -> Edit:
    """Merges an affine operation into the kernel or affine operation before it."""
    maker = program.sole_maker(node.x, Affine, Kernel)
    made = None if maker is None else maker.absorb_output(node.k, node.b)
    if maker is None or made is None:
        return "no kernel or affine operation makes what it alone reads"
    if isinstance(made, Affine):
        made = replace(made, name=node.name)
    return program.with_nodes([maker, node], [made.making(node.y)])


def before_join(program: Program, node: Affine) -> Edit:
    """Moves an affine operation before a concatenation, to the kernels there."""
    join = program.sole_maker(node.x, Joined)
    if join is None or not all(program.sole_maker(x, Kernel) for x in join.reads):
        return "it does not read a concatenation of kernels' outputs alone"
    numbers = zip(*(np.split(n, join.ends) for n in (node.k, node.b)), strict=True)
    made = [
        Affine(f"{node.name}_{i}", (part,), (part.like(),), k, b)
        for i, (part, (k, b)) in enumerate(zip(join.reads, numbers, strict=True))
    ]
    whole = replace(join, reads=tuple(part.y for part in made), makes=node.makes)
    return program.with_nodes([join, node], [*made, whole])


def scale_beside_signs(program: Program, node: Affine) -> Edit:
    """Merges a factor k > 0 into a kernel whose other readers are signs.

    These signs stay right, since sign(x + b) is sign(k x + k b).
    """
    if not node.is_scale or np.any(node.k <= 0):
        return "it is no factor k > 0"
    kernel = program.maker(node.x, Kernel)
    if kernel is None or program.is_output(node.x):
        return "it reads no kernel, or one that makes an output"
    signs = [reader for reader in program.readers(node.x) if reader is not node]
    made = list[Node]()
    for sign in signs:
        if not isinstance(sign, Sign):
            return "besides it, others than signs read the kernel"
        read = sign.reading(node.x, node.y)
        made.append(replace(read, shift=sign.shift * node.k))
    scaled = kernel.absorb_output(node.k, node.b).making(node.y)
    return program.with_nodes([kernel, node, *signs], [scaled, *made])


def into_sign(program: Program, node: Sign) -> Edit:
    """Merges an affine operation with k > 0 into the shift of the sign after it."""
    before = program.maker(node.x, Affine)
    made = None if before is None else node.absorb_input(before.k, before.b)
    if before is None or made is None:
        return "it reads no affine operation with k > 0"
    if np.any(made.shift) and program.reader(before.y) is None:
        return "the affine operation would stay, in addition to a shift"
    return program.with_nodes([node], [made.reading(node.x, before.x)])


def sign_of_tanh(program: Program, node: Sign) -> Edit:
    """Replaces the sign of tanh(x) + b by that of x + artanh(b), |b| at most 1."""
    if np.any(np.abs(node.shift) == 1):
        return "its shift is ±1, which tanh never reaches"
    tanh, shape, value = program.maker(node.x), None, node.x
    if tanh is not None and tanh.keeps_channels and program.reader(node.x):
        shape, tanh, value = tanh, program.maker(tanh.x), node.x.like()
    if tanh is None or tanh.type != "Tanh":
        return "it is of no tanh"
    shift = np.clip(node.shift, -1, 1)
    with np.errstate(divide="ignore"):
        made = replace(node, shift=np.arctanh(shift))
    if shape is None:
        return program.with_nodes([node], [made.reading(node.x, tanh.x)])
    shaped = shape.reading(shape.x, tanh.x).making(value)
    return program.with_nodes([node, shape], [shaped, made.reading(node.x, value)])


def sign_of_signs(program: Program, node: Other) -> Edit:
    """Replaces TensorFlow's sign of a sum of two signs by a clip to [-1, 1].

    Larq's ternary quantizer has such a sign, and LCE would ignore the second summand.
    """
    total = program.maker(node.x, Sum) if node.type == "Sign" else None
    if total is None or not all(program.maker(x, *_SIGNS) for x in total.reads):
        return "it is no sign of a sum of two signs"
    clip = Clip(node.name, node.reads, node.makes, -1.0, 1.0)
    return program.with_nodes([node], [clip])


def compare_sum_with_sign(program: Program, node: Sign) -> Edit:
    """Writes the sign of sign(x) + y as a comparison, else LCE takes it for sign(x)."""
    total = program.maker(node.x, Sum)
    if np.any(node.shift) or node.compared or not _reads_sign(program, total):
        return "it is compared anyway, or of no sum with a sign"
    return program.with_nodes([node], [replace(node, compared=True)])


def _reads_sign(program: Program, node: Node | None) -> bool:
    return node is not None and any(program.maker(x, *_SIGNS) for x in node.reads)


def keep_apart(program: Program, node: Sum | Other) -> Edit:
    """Makes a node that LCE would merge wrongly read a copy, which LCE does not merge.

    LCE takes sign(sign(x) + y) for one sign, whatever y is. It also merges products and
    sums after a binary convolution into its scale and bias, whatever their shape.
    Measured: constants of shape (1, C), (H, 1, 1) and (H, W, C) give files that cannot
    allocate their tensors, and (1, 1, C) of mixed signs before a sign a file that is
    off by 17; some constants crash the converter.
    """
    apart: list[Value] = []
    if node.type == "Sign":
        apart = [node.x] * _reads_sign(program, program.maker(node.x))
    elif node.is_a(*_FUSED):
        constants = filter(None, (program.maker(x, Constant) for x in node.reads))
        wide = any(len(x.y.shape or ()) > 1 for x in constants)
        apart = [x for x in node.reads if wide and _is_after_binary(program, x)]
    if not apart:
        return "LCE merges it right, or not at all"
    value = apart[0].like()
    copy = Copy(f"{node.name}_apart", (apart[0],), (value,))
    return program.with_nodes([node], [copy, node.reading(apart[0], value)])


def _is_after_binary(program: Program, value: Value) -> bool:
    """Whether LCE fuses all that made a value into a binary convolution."""
    node = program.maker(value)
    while node is not None and node.is_a(Affine, Clip, Sum, Other):
        makers = [program.maker(x) for x in node.reads]
        maps = [m for m in makers if not isinstance(m, Constant)]
        node = maps[0] if len(maps) == 1 else None
    return isinstance(node, Kernel) and node.binary


def scale_apart(program: Program, node: Kernel) -> Edit:
    """Scales binary sums in an operation of their own, if a sign may read a 0 of them.

    LCE subtracts the part of padded zeros, and a bias, after scaling, so a sum of 0
    becomes about 1e-8, whose sign is noise; with a power of two as scale, it stays 0.
    """
    zeros, (inner, outer) = zeros_around(node), whole_bias(node)
    rounds = (inner != 0) | (zeros is not None and np.any(zeros.sides))
    inexact = _reaches_0(node) & rounds & (np.frexp(node.scale)[0] != 0.5)
    if not np.any(inexact) or not _has_sign_at_0(program, node):
        return "its sums are exact where they are 0, or no sign reads these"
    sums, copy = node.y.like(), node.y.like()
    made = [
        replace(node, scale=1.0, bias=inner).making(sums),
        Copy(f"{node.name}_apart", (sums,), (copy,)),
        Affine(f"{node.name}_scale", (copy,), node.makes, node.scale, outer),
    ]
    return program.with_nodes([node], made)


def _reaches_0(kernel: Kernel) -> np.ndarray:
    """In which channels a kernel makes sums of signs that may be 0."""
    return kernel.binary & (whole_bias(kernel)[1] == 0)


def _has_sign_at_0(program: Program, start: Node) -> bool:
    """Whether a sign may read numbers that are 0 where those of a node are 0.

    Sums of real products are not exactly 0, nor are sums with these.
    """
    reached, never = {*start.makes}, set[Value]()
    for node in program.nodes:
        known = [x in never for x in node.reads if not program.maker(x, Constant)]
        if isinstance(node, Kernel):
            sums = not node.is_depthwise or node.weights.shape[:2] != (1, 1)
            differs = sums and not np.any(_reaches_0(node))
        elif isinstance(node, Affine) and not node.is_scale:
            differs = bool(np.all(node.b)) and not program.maker(node.x, Sign)
        elif node.is_a(Sum, "Add", "AddV2", "Sub"):
            differs = any(known)
        else:
            factor = isinstance(node, Affine) or Through.FACTOR in node.through
            differs = factor and all(known) and node.type != "Relu"
        if differs:
            never.update(node.makes)
        elif reached.isdisjoint(node.reads):
            continue
        elif not node.is_a(*_SIGNS, *COMPARES):
            reached.update(node.makes)
        elif not isinstance(node, Sign) or not np.all(node.shift):
            return True
    return False


def scale_after_mean(program: Program, node: Reshape | Other) -> Edit:
    """Averages sums of signs before they are scaled, if a sign may read a 0 of that.

    Scaled numbers that should cancel to 0 leave rounding noise, which depends on the
    order of the sum; that of whole numbers is exact.
    """
    path, kernel = list[Node]([node]), program.maker(node.x)
    while kernel is not None and _keeps_0(kernel):
        path.append(kernel)
        kernel = program.maker(kernel.x)
    if not any(part.is_a("Mean", "AvgPool") for part in path) or not _keeps_0(node):
        return "it is no mean of each channel"
    if not isinstance(kernel, Kernel) or _step_of_sums(program, kernel.y) is None:
        return "its numbers are no multiples of whole ones"
    scales = [kernel.scale, *(part.k for part in path if isinstance(part, Affine))]
    if all(np.all(np.frexp(k)[0] == 0.5) for k in scales):
        return "a power of two as scale rounds nothing"
    if not _has_sign_at_0(program, node):
        return "no sign reads a 0 of it"
    # Copies of one scale have one name.
    sums, k, name = kernel.y.like(), kernel.scale, f"{kernel.name}_scale"
    made: list[Node] = [replace(kernel, scale=1.0).making(sums)]
    made.append(Affine(name, (sums,), kernel.makes, k))
    for part in path[::-1]:
        if isinstance(part, Affine):
            k, name = k * part.k, f"{part.name.removesuffix('_scale')}_scale"
            made.append(replace(part, name=name, reads=(sums,), k=k))
        else:
            moved = part.y.like()
            made.append(part.reading(part.x, sums).making(moved))
            made.append(Affine(name, (moved,), part.makes, k))
            sums = moved
    return program.with_nodes([kernel, *path], made)


def _keeps_0(node: Node) -> bool:
    """Whether a node makes of multiples of whole numbers such, or means of them."""
    if isinstance(node, Affine):
        return node.is_scale and bool(np.all(node.k > 0))
    fits = node.is_a(*_POOLS, "Mean", "Relu") or node.is_reshape
    return fits and Through.FACTOR in node.through


def scale_after_sum(program: Program, node: Sum | Other) -> Edit:
    """Writes k u + k w as k (u + w), where the first is a mean of the second."""
    scales = [program.maker(x, Affine) for x in node.reads]
    first, *others = scales
    if first is None or not node.is_a(Sum, "Add", "AddV2", "Sub"):
        return "it is no sum of scaled maps"
    if not all(other and other.name == first.name for other in others):
        return "its parts have several scales"
    moved = {scale.y: scale.x for scale in scales if scale}
    whole = node.reading_moved(moved).making(node.y.like())
    return program.with_nodes([node], [whole, first.between(whole.y, node.y)])


def scale_after_relu(program: Program, node: Kernel) -> Edit:
    """Moves the scale after a ReLU, since LCE's binary convolutions scale last."""
    relu = program.reader(node.y, "Relu")
    if relu is None or not node.binary or np.any(node.bias) or node.is_plain:
        return "no ReLU alone reads it, or it is not a scale of binary sums"
    value, name = relu.y.like(), f"{node.name}_scale"
    scale = Affine(name, (value,), relu.makes, node.scale)
    made = [replace(node, scale=1.0), relu.making(value), scale]
    return program.with_nodes([node, relu], made)


def scale_into_readers(program: Program, node: Affine) -> Edit:
    """Moves a factor k > 0 into all readers, if at most one of them passes it on."""
    readers = program.readers(node.y)
    handing = [r for r in readers if not r.is_a(Kernel, Sign)]
    if len(handing) > 1 or (handing and _is_after_relu(program, node)):
        return "several readers pass it on, or one does, and here it costs nothing"
    return scale_into_all(program, node)


def scale_into_all(program: Program, node: Affine) -> Edit:
    """Moves a factor k > 0 into all readers; a shift b before it stays, as b / k.

    Signs drop the factor and kernels absorb it. Homogeneous functions pass it on, and
    so does a sum whose other part can be divided by it. Linear functions also take
    k < 0, and k = 0 where b = 0.
    """
    k, b = node.k, node.b
    fits = (np.abs(k) > _LEAST_FACTOR) & (np.abs(k) < _MOST_FACTOR)
    if node.is_shift or not np.all(fits | ((k == 0) & (b == 0))):
        return "it has no factor, or one at the ends of float32"
    first = b / np.where(k == 0, 1, k)
    shift = Affine(node.name, node.reads, (node.x.like(),), 1.0, first)
    return _into_readers(program, shift, Affine(node.name, shift.makes, node.makes, k))


def shift_into_readers(program: Program, node: Affine) -> Edit:
    """Moves a shift into all readers, if every one of them can take it.

    Signs, unpadded kernels and affine operations absorb it; sums, pools and
    concatenations pass it on. A factor before it stays.
    """
    if node.is_scale:
        return "it has no shift"
    handed = not all(x.is_a(Sign, Kernel, Affine) for x in program.readers(node.y))
    if handed and _is_after_relu(program, node):
        return "a reader would pass it on, and here it costs nothing"
    scale = Affine(node.name, node.reads, (node.x.like(),), node.k)
    last = Affine(node.name, scale.makes, node.makes, 1.0, node.b)
    return _into_readers(program, scale, last)


def _into_readers(program: Program, first: Affine, last: Affine) -> Edit:
    """Moves `last` of last(first(x)) into or past all readers; `first` stays."""
    readers, k, b = program.readers(last.y), last.k, last.b
    if not readers or program.is_output(last.y):
        return "it is an output"
    old = [node for node in (program.maker(last.y), *readers) if node is not None]
    new: list[Node] = [first]
    for reader in readers:
        if reader.reads.count(last.y) != 1:
            return "a node reads it twice"
        read = reader.reading(last.y, first.y)
        absorbed = read.absorb_input(k, b)
        if absorbed is not None:
            new.append(absorbed)
            continue
        if isinstance(reader, Sum) and last.is_scale and np.all(k > 0):
            other = _other_part(program, last, reader)
            if other is None or other in old:  # two sums share it
                return "the other part of a sum cannot be divided by it"
            old.append(other)
            new += _times(other, 1 / k)
        elif not reader.lets_through(k, b):
            return "a node that reads it neither absorbs it nor passes it on"
        made = reader.y.like()
        spread = (reader.spread(last.y, *x) for x in ((k, 1.0), (b, 0.0)))
        new += [read.making(made), Affine(last.name, (made,), reader.makes, *spread)]
    return program.with_nodes(old, new)


def _other_part(program: Program, node: Node, added: Node) -> Node | None:
    """Returns the maker of the other summand, if it can be divided by a factor."""
    value = next(x for x in added.reads if x is not node.y)
    other = program.sole_maker(value, Kernel, Affine, *_HOMOGENEOUS)
    if other is None or other.is_a(Kernel, Affine):
        return other
    return other if _scales_before(program, other) else None


def _times(node: Node, factor: np.ndarray) -> list[Node]:
    """Returns nodes that make `factor` times the output of a node."""
    scaled = node.absorb_output(factor, np.zeros(1))
    if scaled is not None:
        return [scaled]
    value = node.y.like()
    return [node.making(value), Affine(node.name, (value,), node.makes, factor)]


def affine_into_parts(program: Program, node: Affine) -> Edit:
    """Writes k (u + w) + b as (k u + b) + k w; the kernel of u absorbs its k and b.

    One affine operation is left, whatever the sign of k.
    """
    whole = program.sole_maker(node.x, Sum)
    if whole is None or node.is_scale or node.is_shift:
        return "it has no factor and shift of a sum that it alone reads"
    u, w = sorted(whole.reads, key=lambda x: not program.sole_maker(x, Kernel))
    if not program.sole_maker(u, Kernel):
        return "no kernel makes a part of the sum for it alone"
    first, second = u.like(), w.like()
    made = [
        Affine(node.name, (u,), (first,), node.k, node.b),
        Affine(f"{node.name}_rest", (w,), (second,), node.k),
        whole.reading_moved({u: first, w: second}).making(node.y),
    ]
    return program.with_nodes([node, whole], made)


def shift_into_parts(program: Program, node: Affine) -> Edit:
    """Moves the shift of a sum or a concatenation into what makes the parts."""
    whole = program.sole_maker(node.x, Sum, Joined) if node.is_shift else None
    takers = [] if whole is None else _takers(program, whole, node.b)
    if whole is None or not takers:
        return "it is no shift of a sum or concatenation that makers of parts can take"
    old = [node, whole, *(taker for taker, _ in takers)]
    made = [taker.absorb_output(np.ones(1), b) for taker, b in takers]
    return program.with_nodes(old, [*made, whole.making(node.y)])


def _takers(
    program: Program, maker: Node | None, b: np.ndarray
) -> list[tuple[Affine | Kernel, np.ndarray]]:
    """Returns the nodes that can add b to a map for free, each with its part of b.

    A kernel adds it as its bias, and an affine operation as its shift. It is also free
    after the ReLU of a binary convolution, where LCE adds a bias. [] if nothing can.
    """
    if isinstance(maker, Kernel):
        return [(maker, b)]
    if isinstance(maker, Affine):
        free = not maker.is_scale or _is_after_relu(program, maker)
        return [(maker, b)] * free
    if not isinstance(maker, Sum | Joined):
        return []
    shifts = [b] * len(maker.reads)
    if isinstance(maker, Joined):
        shifts = np.split(b, maker.ends)
    found = [
        _takers(program, program.sole_maker(part), shift)
        for part, shift in zip(maker.reads, shifts, strict=True)
        if np.any(shift)
    ]
    if isinstance(maker, Sum):
        return next(filter(None, found), [])
    return [taker for takers in found for taker in takers] if all(found) else []


def _is_after_relu(program: Program, node: Affine) -> bool:
    relu = program.sole_maker(node.x, "Relu")
    return relu is not None and is_plain_relu(program, relu)


def before_pool(program: Program, node: Affine) -> Edit:
    """Moves an affine operation before a pool, into the kernel there."""
    pool = program.maker(node.x, *_POOLS)
    if pool is None or (pool.type == "MaxPool" and np.any(node.k < 0)):
        return "it is of no pool, or k < 0 of a maximum"
    return moved_to_kernel(program, pool, node)


def into_product(program: Program, node: Affine) -> Edit:
    """Merges a factor into the constant of a product before it."""
    edit = _times_product(program, node.x, node.k)
    if node.is_shift or edit is None:
        return "it has no factor, or is of no product with numbers per channel"
    old, made = edit
    return program.with_nodes([*old, node], [*made, replace(node, k=1.0)])


def _times_product(
    program: Program, value: Value, k: np.ndarray
) -> tuple[list[Node], list[Node]] | None:
    """Returns nodes to remove, and nodes that make k times a product instead."""
    product = program.sole_maker(value, "Mul")
    for x in () if product is None else product.reads:
        constant, scale = program.maker(x, Constant), program.sole_maker(x, Affine)
        if product is None or x.channels != value.channels:
            continue
        if constant is not None:
            new, numbers = x.like(), constant.value
            scaled = replace(constant, value=(numbers * k).astype(numbers.dtype))
            return [product], [scaled.making(new), product.reading(x, new)]
        if scale is not None and scale.is_scale:
            return [scale], [replace(scale, k=scale.k * k)]
        if (edit := _times_product(program, x, k)) is not None:
            return edit
    return None


def before_relu(program: Program, node: Affine) -> Edit:
    """Moves a factor k > 0 before a ReLU, into the kernel or product there."""
    if node.is_shift or np.any(node.k <= 0):
        return "it has no factor k > 0"
    relu = program.sole_maker(node.x, *_HOMOGENEOUS)
    if relu is None or not _scales_before(program, relu):
        return "no kernel or product before a ReLU can take it"
    first, last = relu.x.like(), relu.y.like()
    made = [
        Affine(node.name, relu.reads, (first,), node.k),
        relu.between(first, last),
        Affine(node.name, (last,), node.makes, 1.0, node.b),
    ]
    return program.with_nodes([relu, node], made)


def _scales_before(program: Program, relu: Node) -> bool:
    """Whether a kernel or product before a ReLU can take its factor.

    A binary kernel cannot if LCE fuses the ReLU, since the scale comes after that.
    """
    before = program.sole_maker(relu.x, Affine)
    product = relu.x if before is None else before.x
    if _times_product(program, product, np.ones(1)) is not None:
        return True
    kernel = program.sole_maker(relu.x, Kernel)
    return kernel is not None and not (kernel.binary and relu.type == "Relu")


def opposite_sign(program: Program, node: Affine) -> Edit:
    """Replaces sign(k x + b), k < 0, by the opposite of a sign of x; kernels undo it.

    The opposite differs only at the threshold, where no sum is if it is between two.
    """
    k, readers, old = node.k, program.readers(node.y), list[Node]([node])
    if np.all(k > 0) or np.any(np.abs(k) < _LEAST_FACTOR):
        return "it has no factor k < 0, or one next to 0"
    if any(map(program.is_output, (node.y, *(reader.y for reader in readers)))):
        return "it or a sign of it is an output, which no kernel undoes"
    step, new = _step_of_sums(program, node.x), list[Node]()
    turn, origins = np.where(k < 0, -1.0, 1.0), dict[Value, Origin]()
    for sign in readers:
        if not isinstance(sign, Sign):
            return "others than signs read it"
        limit = _thresholds.threshold_of_affine(k, node.b + sign.shift)
        shift = limit.shift()
        if step is not None:
            shift = -_thresholds.between_steps(limit.value, step, limit.negated)
        bits = sign.y.like()
        origins[sign.y] = Origin((bits,), partial(np.multiply, turn))
        new.append(replace(sign, shift=shift).between(node.x, bits))
        for kernel in program.readers(sign.y):
            if not isinstance(kernel, Kernel) or not _has_bits(kernel):
                return "its signs have other readers than binary convolutions"
            turned = replace(kernel, weights=kernel.weights * turn[:, None])
            new.append(turned.reading(sign.y, bits))
            old.append(kernel)
    if len(new) == len(readers):
        return "no kernel reads a sign of it"
    return program.with_nodes([*old, *readers], new, origins=origins)


def _has_bits(kernel: Kernel) -> bool:
    return kernel.binary and kernel.of == "Conv2D" and kernel.groups == 1


def _step_of_sums(program: Program, value: Value) -> np.ndarray | None:
    """Returns the step if a map consists of whole multiples of it, as sums do."""
    node = program.maker(value)
    while node is not None and node.is_a("MaxPool", "Relu"):
        node = program.maker(node.x)
    if not isinstance(node, Kernel) or not _sums_whole_numbers(program, node):
        return None
    scale = node.scale
    return scale if not np.any(node.bias) and np.all(scale > 0) else None


def _sums_whole_numbers(program: Program, kernel: Kernel) -> bool:
    """Whether a binary kernel's sums are whole: no pad by fractions is before it."""
    before = program.maker(kernel.x)
    while kernel.binary and before is not None and not isinstance(before, Sign):
        if isinstance(before, Pad) and before.value % 1:
            return False
        before = program.maker(before.x)
    return kernel.binary


RULES: tuple[Rule, ...] = (
    identity_goes,
    into_maker,
    before_join,
    scale_beside_signs,
    into_sign,
    sign_of_tanh,
    scale_after_relu,
    shift_into_parts,
    before_pool,
    before_relu,
    into_product,
    before_reshape,
    after_flatten,
    scale_into_readers,
    opposite_sign,
    shift_into_readers,
)


def cost(program: Program) -> int:
    """Returns how many separate operations add, multiply or rectify."""
    count = 0
    for node in program.nodes:
        if isinstance(node, Affine) and not _is_after_relu(program, node):
            count += (not node.is_shift) + (not node.is_scale)
        elif node.is_a("Relu", "Relu6"):  # free as a part of its input's maker
            count += not program.sole_maker(node.x, Kernel, Sum, Affine)
        elif isinstance(node, Sign):
            count += bool(np.any(node.shift))
    return count


def _cheaper(
    program: Program, kind: type[Node], moves: Sequence[Rule], rules: Sequence[Rule]
) -> Program:
    """Applies `moves` to nodes of a kind where that saves operations in the end."""
    tried = set[Node]()
    while True:
        waiting = (n for n in program.nodes if n.is_a(kind) and n not in tried)
        node = next(waiting, None)
        if node is None:
            return program
        tried.add(node)
        for move in moves:
            moved = move(program, node)
            if isinstance(moved, Program):
                moved = everywhere(moved, rules)
                if cost(moved) < cost(program):
                    program = moved
                    break


def shift_into_maker(program: Program, node: Sign) -> Edit:
    """Moves the shift of a sign into a kernel before it; other readers subtract it.

    Through a pool, k max(x) + b is k max(x + b / k), also for k < 0.
    """
    if not np.any(node.shift):
        return "it has no shift"
    maker, shift = program.maker(node.x), node.shift
    while maker and _lets_shift_pass(maker) and program.reader(maker.x):
        if isinstance(maker, Affine):
            shift = shift / maker.k
        maker = program.maker(maker.x)
    takers = _takers(program, maker, shift)
    if len(takers) != 1:
        return "nothing before it, or more than one, can add its shift for free"
    taker, moved = takers[0]
    others = [reader for reader in program.readers(node.x) if reader is not node]
    if (others or program.is_output(node.x)) and _drowns(taker, moved):
        return "other readers would get the map rounded away by so large a shift"
    ends = program.ends(node.x, lambda x: Through.FACTOR in x.through)
    if isinstance(taker, Kernel) and not np.any(taker.bias):
        tells = any(end is not node and end.is_a(*_SIGNS) for end in ends)
        if tells and _sums_whole_numbers(program, taker):
            return "another sign reads sums of 0, which would not be exactly 0"
    # The map's other readers get it with the shift subtracted again.
    name, without = f"{node.name}_back", (node.x.like(),)
    back = Affine(name, node.reads, without, 1.0, -node.shift)
    shifted = taker.absorb_output(np.ones(1), moved)
    made: list[Node] = [shifted, replace(node, shift=0.0), back]
    return program.with_nodes([taker, node], made, {node.x: back.y})


def _lets_shift_pass(node: Node) -> bool:
    if isinstance(node, Affine):
        return node.is_scale and bool(np.all(np.abs(node.k) > _LEAST_FACTOR))
    return node.keeps_channels or node.type in _POOLS


def _drowns(node: Node, shift: np.ndarray) -> bool:
    """Whether a shift is far larger than a kernel's output for inputs around 1."""
    if not isinstance(node, Kernel):
        return False
    axes = (0, 1) if node.is_depthwise else tuple(range(node.weights.ndim - 1))
    sizes = np.sqrt(np.square(node.weights).sum(axis=axes)).ravel()
    return bool(np.any(np.abs(shift) > _FAR * (sizes * node.scale + 1)))


def drop_scale(program: Program, node: Kernel) -> Edit:
    """Leaves the scale out of a binary kernel whose output only signs read.

    Multiples of the scale that should cancel to 0 do not, and their sign is noise.
    """
    if not node.binary or np.any(node.bias):
        return "it is not binary, or has a bias"
    if node.is_plain or np.any(node.scale <= 0) or not _only_signs(program, node.y):
        return "it has no scale > 0, or others than signs read it"
    return program.with_nodes([node], [replace(node, scale=1.0)])


def _only_signs(program: Program, value: Value) -> bool:
    """Whether only plain signs read a value, perhaps after factors."""
    readers = program.readers(value)
    if program.is_output(value) or not readers:
        return False
    return all(
        not np.any(reader.shift)
        if isinstance(reader, Sign)
        else Through.FACTOR in reader.through and _only_signs(program, reader.y)
        for reader in readers
    )


def clear_threshold(program: Program, node: Kernel) -> Edit:
    """Moves a sign's threshold on whole numbers to halfway between two of them.

    LCE divides bias and scale in float32 to find the first whole number that sets a
    bit, and the given model rounds, too; halfway between sums, neither matters.
    """
    if not np.any(node.bias) or not _sums_whole_numbers(program, node):
        return "it does not make a threshold of whole numbers"
    scale, bias, reader = node.scale, node.bias, program.reader(node.y)
    negated = np.zeros(scale.shape, bool)
    while reader is not None:
        if isinstance(reader, Affine) and reader.is_scale:
            if reader.k.shape != scale.shape:
                break
            negated = negated ^ (reader.k < 0)
        elif reader.type != "MaxPool" and not reader.is_reshape:
            break
        reader = program.reader(reader.y)
    if not isinstance(reader, Sign) or np.any(reader.shift):
        return "no plain sign alone reads it"
    at = _thresholds.threshold_of_affine(scale, bias).value
    clear = _thresholds.between_steps(at, 1.0, negated)
    with np.errstate(invalid="ignore"):  # inf - inf
        moves = np.abs(at - clear) > _HALFWAY
    if not np.any(moves):
        return "its threshold is halfway between two sums already"
    bias = np.where(moves, -scale * np.where(moves, clear, 0.0), bias)
    return program.with_nodes([node], [replace(node, bias=bias)])
