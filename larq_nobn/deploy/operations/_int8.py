r"""Rules for int8: how operations between the ranges of a program are rounded.

A converter makes an operation int8 if there is a range before and after it. It rounds
kernels to 8 bits: a convolution has one step size per output channel, and a dense layer
or the slopes of a PReLU have a single one. Where a ReLU or another clip becomes part of
an operation, the result is rounded only after the clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from ...graph._traits import FUSED
from ...layers._fake_quantization import representable_range
from .._errors import ConversionError
from ..trace._operation_names import layer_of
from ._binary import (
    before_reshape,
    ones_around,
    pad_before_sign,
    pad_last,
    padded_apart,
    plain_pad,
    plain_sign,
    same_sides,
    sign_before,
    sign_last,
    whole_kernel,
    with_binary,
)
from ._kinds import (
    Affine,
    Clip,
    Constant,
    Copy,
    Joined,
    Kernel,
    Magnitude,
    Node,
    Other,
    Pad,
    PReLU,
    Range,
    Reshape,
    SaturatingSign,
    Sign,
    Sum,
    SummedPReLU,
    Through,
    Value,
    channelwise,
)
from ._program import Edit, Program, Rule, everywhere
from ._ranges import FIXED, TRANSPOSED, shift_before_sign
from ._rules import (
    before_join,
    identity_goes,
    into_maker,
    scale_after_relu,
    scale_into_readers,
    shift_into_parts,
    shift_into_readers,
)

_ENDS = {"Relu": (0.0, np.inf), "Relu6": (0.0, 6.0)}
_STEPS = (Range, Sign, SaturatingSign, Constant)
# In files, these have the range of their input.
_RANGE_OF_INPUT = ("ResizeBilinear", "ResizeNearestNeighbor", "AvgPool")


def merged(program: Program, runtime: str, ranged: bool = True) -> Program:
    """Returns the program with affine operations merged into the kernels before them.

    If it is not `ranged` yet, shifts move to where they cost nothing, and the shifts of
    signs become sums.
    """
    rules: tuple[Rule, ...] = (identity_goes, into_maker, into_transposed)
    rules += () if ranged else (shift_into_parts, shift_into_readers)
    rules += (before_reshape, before_join, into_kernel_of_signs)
    first = (scale_after_relu,) if runtime == "lce" else ()
    program = with_binary(program, rules, first)
    last: tuple[Rule, ...] = (pad_last, sign_last, spell_clip, merge_clips)
    if runtime == "lce":
        last += (leave_out_border, ones_around, pad_before_sign)
    last += () if ranged else (shift_before_sign,)
    return everywhere(program, last)


def without_ranges(program: Program) -> Program:
    """Returns the program without its ranges, so it rounds nothing."""

    def range_goes(program: Program, node: Range) -> Edit:
        return program.replace(node.y, node.x)

    return everywhere(program, (range_goes,))


def rounded(program: Program, runtime: str) -> Program:
    """Returns a merged program with the rounding of the file, also of its kernels."""
    rules: tuple[Rule, ...] = (negation, affine_alone, border_apart, range_inside)
    if runtime == "litert":
        rules = (levels_as_range, negation, range_before_affine, clip_before_join)
        rules += (affine_of_map, partial(affine_alone, shifts=True))
        rules += (partial(range_inside, of_binary=True),)
    rules += (range_of_moved, range_for_clip, range_after_reshape, range_of_type)
    for rule in (magnitude, *rules):
        program = everywhere(program, (rule,))
    program = everywhere(program, (range_of_inputs, range_after_range))
    nodes = [part for node in program.nodes for part in _with_steps(program, node)]
    return Program(program.inputs, nodes, program.outputs, program.origins)


def spelled(program: Program, runtime: str) -> Program:
    """Returns the program in operations that an int8 file can contain."""
    rules: tuple[Rule, ...] = (uneven_bias,)
    if runtime == "lce":
        return _outputs_apart(everywhere(program, rules))
    rules += (saturating_sign, plain_pad, whole_kernel, weighted_mean, summed_prelu)
    return everywhere(program, (*rules, padded_apart))


# --- before rounding


def spell_clip(program: Program, node: Other) -> Edit:
    """Writes a ReLU, or a maximum or minimum with a number, as a clip."""
    ends, x = _ENDS.get(node.type), node.x
    if node.is_a("Maximum", "Minimum"):
        for value, other in (node.reads, node.reads[::-1]):
            number = program.constant(other)
            if number is not None and number.size == 1 and value.shape == node.y.shape:
                end, x = float(number.item()), value
                ends = (end, np.inf) if node.type == "Maximum" else (-np.inf, end)
    if ends is None:
        return "it cuts off nothing beyond numbers that are known"
    return program.with_nodes([node], [Clip(node.name, (x,), node.makes, *ends)])


def merge_clips(program: Program, node: Clip) -> Edit:
    """Merges two clips in a row into one."""
    before = program.sole_maker(node.x, Clip)
    if before is None:
        return "no clip makes what it alone reads"
    low, high = map(float, np.clip(before.bounds, *node.bounds))
    one = Clip(node.name, before.reads, node.makes, low, high)
    return program.with_nodes([before, node], [one])


def into_transposed(program: Program, node: Affine) -> Edit:
    """Merges a factor into the kernel of a transposed convolution."""
    kernel = program.sole_maker(node.x, TRANSPOSED)
    weights = None if kernel is None else program.maker(kernel.reads[1], Constant)
    if kernel is None or weights is None or node.is_shift:
        return "it is no factor of a transposed convolution that it alone reads"
    scaled = _replaced(weights, weights.value * node.k[:, None])
    value = node.x.like()
    made = [
        scaled,
        kernel.reading(weights.y, scaled.y).making(value),
        Affine(node.name, (value,), node.makes, 1.0, node.b),
    ]
    return program.with_nodes([kernel, node], made)


def into_kernel_of_signs(program: Program, node: Affine) -> Edit:
    """Moves an affine operation on signs into the kernels that read it."""
    if sign_before(program, node.x) is None:
        return "it reads no signs"
    edited = scale_into_readers(program, node)
    return edited if isinstance(edited, Program) else shift_into_readers(program, node)


def leave_out_border(program: Program, node: Kernel) -> Edit:
    """Removes padding from a binary convolution that needs none; LCE wants that."""
    sides = same_sides(node, node.x)
    if not node.binary or node.padding != "SAME" or sides is None or np.any(sides):
        return 'it is no binary "same" convolution, or meets zeros'
    return program.with_nodes([node], [replace(node, padding="VALID")])


def _replaced(constant: Constant, value: np.ndarray) -> Constant:
    return replace(constant, makes=(constant.y.like(),), value=value.astype(np.float32))


# --- where a file rounds


def _up_to_steps(program: Program, value: Value) -> Iterator[Node | None]:
    """Yields what makes a value, back to ranges, signs, constants and inputs."""
    left, seen = [value], set[Value]()
    while left:
        read = left.pop()
        if read not in seen:
            seen.add(read)
            maker = program.maker(read)
            yield maker
            if maker is not None and not maker.is_a(*_STEPS):
                left += [x for x in maker.reads if x.dtype.is_floating]


def _moves(program: Program, node: Node) -> bool:
    """Whether a node only moves numbers, adds zeros, or adds signs around signs."""
    if isinstance(node, Pad):
        return node.value == 0 or sign_before(program, node.x) is not None
    return Through.NUMBERS in node.through


def _is_rounded(program: Program, value: Value) -> bool:
    """Whether only ranges or signs read a value, perhaps moved, cut off or shifted."""
    return not program.is_output(value) and all(
        all(_is_rounded(program, made) for made in reader.makes)
        if reader.is_a(Clip, Copy)
        or _moves(program, reader)
        or (isinstance(reader, Affine) and reader.is_shift)
        else reader.is_a(Range, Sign)
        for reader in program.readers(value)
    )


def _in_int8(program: Program, node: Node) -> bool:
    """Whether it is rounded, and reads steps of ranges or signs, perhaps moved."""
    reals = (x for x in node.reads if x.dtype.is_floating)
    inputs = (_up_to_steps(program, x) for x in reals if program.constant(x) is None)
    return _is_rounded(program, node.y) and any(
        all(m and (m.is_a(*_STEPS) or _moves(program, m)) for m in makers)
        for makers in inputs
    )


def clip_before_join(program: Program, node: Clip) -> Edit:
    """Moves the clip of a convolution in groups before the join, into each group."""
    join = program.sole_maker(node.x, Joined)
    if join is None or node.bounds not in FUSED:
        return "it reads no concatenation alone, or no operation can contain it"
    if not all(program.sole_maker(part, Kernel) for part in join.reads):
        return "not only kernels make the parts"
    made = [node.between(part, part.like()) for part in join.reads]
    whole = replace(join, reads=tuple(clip.y for clip in made), makes=node.makes)
    return program.with_nodes([join, node], [*made, whole])


def levels_as_range(program: Program, node: Other) -> Edit:
    """Writes round(n x) / n for x in [0, 1] as a range of n steps."""
    times = program.sole_maker(node.x, Affine) if node.type == "Round" else None
    part = program.reader(node.y, Affine)
    if times is None or part is None or not node.x.is_map:
        return "it does not round a multiple of a map that is divided again"
    clip, count = program.sole_maker(times.x, Clip), float(times.k.flat[0])
    scales = np.all(times.k == count) and np.allclose(part.k * count, 1)
    if clip is None or clip.bounds != (0.0, 1.0) or not scales:
        return "it is no division of what is cut off beyond 0 and 1"
    if not times.is_scale or not part.is_scale or not 0 < count < 256:
        return "there are shifts, or too many steps"
    # The range ends beyond 1, so a clip to at most 1 remains before it.
    alone, cut = clip.x.like(), clip.y.like()
    made = [
        channelwise(f"{node.name}_clip", clip.x, 1.0, alone),
        replace(clip.between(alone, cut), low=-1.0),
        Range(node.name, (cut,), part.makes, 0.0, 255 / count),
    ]
    return program.with_nodes([clip, times, node, part], made)


def magnitude(program: Program, node: Range) -> Edit:
    """Writes max(x, -x) as |x|, and min(x, -x) as its opposite."""
    maker = program.sole_maker(node.x, "Maximum", "Minimum")
    reads = (maker.reads, maker.reads[::-1]) if maker else ()
    of = next((x for x, other in reads if _is_opposite(program, x, other)), None)
    if maker is None or of is None:
        return "it is not of a map and its opposite"
    if maker.type == "Maximum":
        return program.with_nodes([maker], [Magnitude(maker.name, (of,), maker.makes)])
    size, inner = node.x.like(), node.x.like()
    made = [
        Magnitude(maker.name, (of,), (size,)),
        Range(f"{maker.name}_range", (size,), (inner,), -node.high, -node.low),
        Affine(f"{maker.name}_opposite", (inner,), maker.makes, -1.0),
    ]
    return program.with_nodes([maker], made)


def _is_opposite(program: Program, x: Value, other: Value) -> bool:
    maker = program.maker(other, Affine)
    if maker is None or maker.x is not x:
        return False
    return maker.is_scale and bool(np.all(maker.k == -1))


def negation(program: Program, node: Affine) -> Edit:
    """Writes -x as a convolution that ends in the opposite of the range of x."""
    before = program.maker(node.x, Range)
    if before is None or not node.x.is_map or np.any(node.k != -1) or np.any(node.b):
        return "it is not the opposite of a map that has a range"
    value, name = node.x.like(), f"{node.name}_range"
    made = [
        channelwise(node.name, node.x, -1.0, value),
        Range(name, (value,), node.makes, -before.high, -before.low),
    ]
    return program.with_nodes([node], made)


def range_before_affine(program: Program, node: Affine) -> Edit:
    """Adds a range before an affine operation, computed from the one after it.

    It serves a binary layer that ends in a ReLU, and a sum before a mean.
    """
    maker = program.sole_maker(node.x, Clip, Sum)
    after = program.reader(node.y, Range)
    if maker is None or after is None:
        return "it stands between no clip or sum and a range"
    if isinstance(maker, Clip):
        join = program.sole_maker(maker.x, Joined)
        parts = (maker.x,) if join is None else join.reads
        kernels = [program.sole_maker(part, Kernel) for part in parts]
        known = all(kernel is not None and kernel.binary for kernel in kernels)
    else:  # in the same steps
        known = node.is_scale and not np.ptp(node.k) and node.k.flat[0] > 0
    if not known:
        return "the clip is of no binary kernel, or the sum in other steps"
    factor = np.where(node.k == 0, np.inf, node.k)
    ends = np.stack([(end - node.b) / factor for end in (after.low, after.high)])
    value = node.x.like()
    low, high = min(float(ends.min()), 0.0), float(ends.max())
    own = Range(f"{maker.name}_range", node.reads, (value,), low, high)
    return program.with_nodes([node], [own, node.reading(node.x, value)])


def affine_of_map(program: Program, node: Affine) -> Edit:
    """Writes an affine operation on vectors or sequences as one on a map."""
    if node.x.is_map or not _in_int8(program, node):
        return "it is of a map already, or float"
    made = _as_map(node)
    return program.with_nodes([node], made) if made else "it is of open sizes"


def _as_map(node: Node) -> list[Node]:
    """Returns a node of vectors or sequences as one of a map; [] of unknown sizes."""
    if node.x.is_map:
        return [node]
    if len(node.x.sizes) < max(len(node.x.shape or ()), 2):
        return []
    first, *inner, channels = node.x.sizes
    x, y = (Value((first, 1, math.prod(inner), channels), node.x.dtype) for _ in "xy")
    return [
        Reshape(f"{node.name}_map", node.reads, (x,)),
        node.between(x, y),
        Reshape(f"{node.name}_end", (y,), node.makes),
    ]


def affine_alone(program: Program, node: Affine, shifts: bool = False) -> Edit:
    """Writes an affine operation that no kernel can take as a depthwise convolution.

    That is one operation in int8, while a product and a sum would stay float. With
    `shifts`, mere shifts are written so, too: a sum with a constant has 8 bits.
    """
    if node.is_shift and not shifts:
        return "it has no factor"
    if not node.x.is_map or not _in_int8(program, node):
        return "it is of no map, or float"
    alone = channelwise(node.name, node.x, node.k, node.y, node.b)
    return program.with_nodes([node], [alone])


def border_apart(program: Program, node: Kernel) -> Edit:
    """Keeps a binary convolution that is padded with zeros float up to its range.

    LCE would merge the range into it, with a scale and bias between, and has no int8
    kernel for that.
    """
    if not node.binary or node.padding != "SAME":
        return "it is no binary convolution that is padded with zeros"
    if not any(x.is_a(Range, Affine) for x in program.readers(node.y)):
        return "no range follows it"
    value = node.y.like()
    apart = Copy(f"{node.name}_float", (value,), (node.y,))
    return program.with_nodes([node], [node.making(value), apart])


def range_inside(program: Program, node: Range, of_binary: bool = False) -> Edit:
    """Removes a range before a clip that the file merges into an operation.

    The file rounds only once, after the clip. A range stays if it cuts off numbers that
    the next one contains, since removing it would change more than rounding.
    """
    clip = program.reader(node.y, Clip)
    if clip is None or clip.bounds not in FUSED:
        return "no clip that is part of an operation follows it"
    if not _is_inner(program, node, clip, *clip.bounds):
        return "it cuts off what the next range has"
    if not _takes_clip(program, node.x, of_binary):
        return "what makes its map contains no clip"
    return program.replace(node.y, node.x)


def _is_inner(
    program: Program, node: Range, reader: Node, low: float, high: float
) -> bool:
    """Whether a range cuts off nothing that its reader and the next range keep."""
    after = program.reader(reader.y, Range)
    if not (after and program.sole_maker(node.x) and program.reader(node.y)):
        return False
    least, most = np.clip((node.low, node.high), low, high)
    wanted = np.clip((after.low, after.high), low, high)
    return bool(least <= wanted[0] + node.step and most >= wanted[1] - node.step)


def _takes_clip(program: Program, value: Value, of_binary: bool) -> bool:
    """Whether the converter merges a clip into the operation that makes a value."""
    maker = program.maker(value)
    if isinstance(maker, Affine):
        maker = program.sole_maker(maker.x, TRANSPOSED)
    if isinstance(maker, Kernel):
        return of_binary or not maker.binary
    return maker is not None and maker.is_a(Sum, TRANSPOSED)


def range_for_clip(program: Program, node: Clip) -> Edit:
    """Removes a clip if the range after it cuts off as much.

    The converter would round the bound of a maximum or minimum to the range before it.
    A clip that the converter merges into the operation before it stays.
    """
    after, affine = program.reader(node.y, Range), program.maker(node.x, Affine)
    # Files cannot clip a transposed convolution to ±1.
    of_transposed = program.maker(affine.x if affine else node.x, TRANSPOSED)
    fused = FUSED[:-1] if of_transposed else FUSED
    if after is None or node.bounds in fused:
        return "no range follows it, or it is part of an operation"
    low, high = node.bounds
    before = program.maker(node.x, Range)
    if before and _is_inner(program, before, node, low, high):
        program = program.replace(before.y, before.x)
        node = program.maker(node.y, Clip) or node
    apart = not _takes_clip(program, node.x, True)  # an operation between two ranges
    wider = after.low < low - after.step or after.high > high + after.step
    if wider or (apart and not node.x.is_map):
        raise ConversionError(
            f"Layer {layer_of(node)!r} clips to [{low:g}, {high:g}], for which "
            "int8 has no form there. Clip to [-1, 1] (larq.activations."
            "hard_tanh) or [0, 6] (tf.nn.relu6), or convert without int8."
        )
    if not apart:
        return program.replace(node.y, node.x)
    alone = channelwise(node.name, node.x, 1.0, node.y)
    return program.with_nodes([node], [alone])


def range_after_reshape(program: Program, node: Range) -> Edit:
    """Moves the range of a mean after the reshape that alone reads it.

    The converter merges the mean and the reshape into one operation, which rounds
    differently. With a range after both, it does so also if that range is an output.
    """
    reader, maker = program.reader(node.y), program.maker(node.x)
    while maker is not None and maker.is_reshape:
        maker = program.maker(maker.x)
    mean = maker is not None and maker.type == "Mean"
    if reader is None or not reader.is_reshape or not mean:
        return "it is not that of a mean before a reshape"
    value = reader.y.like()
    made = [reader.reading(node.y, node.x).making(value), node.between(value, reader.y)]
    return program.with_nodes([node, reader], made)


def range_of_type(program: Program, node: Range) -> Edit:
    """Gives an operation the range that files require of its type, before its own."""
    maker = program.sole_maker(node.x, *FIXED, *_RANGE_OF_INPUT)
    if maker is None:
        return "files have what it is of in any range"
    first, own = program.maker(maker.x, Range), FIXED.get(maker.type)
    if own is not None:
        first = replace(node, low=own[0], high=own[1])
    if first is None or _is_alike(first, node):
        return "it has that range, or there is none"
    value, name = node.x.like(), f"{maker.name}_range"
    first = replace(first, name=name).between(node.x, value)
    return program.with_nodes([node], [first, node.reading(node.x, value)])


def range_of_moved(program: Program, node: Joined | Other) -> Edit:
    """Adds a range after an operation that moves numbers of several ranges."""
    ranges, readers = [*_ranges_before(program, node.y)], program.readers(node.y)
    if all(_is_alike(x, ranges[0]) for x in ranges) or len(node.makes) > 1:
        return "it moves no numbers, or those of one range"
    if any(r.is_a(Range) or _moves(program, r) for r in readers):
        return "a range follows, perhaps later"
    if not all(r.is_a(Sign) or _in_int8(program, r) for r in readers):
        return "what reads it is float"
    ends = min(x.low for x in ranges), max(x.high for x in ranges)
    ends = representable_range(*map(np.float32, ends))
    made = Range(f"{node.name}_range", node.makes, (node.y.like(),), *map(float, ends))
    lost = any(x.low < 0 and 2 * x.step <= made.step for x in ranges)
    if lost and any(isinstance(r, Sign) for r in readers):
        raise ConversionError(
            f"Layer {layer_of(node)!r} gives a sign numbers of several int8 ranges, "
            "while files have one range there, in which small numbers would become 0. "
            "Add a FakeQuantization after that layer, or convert without int8."
        )
    return program.with_nodes((), [made], {node.y: made.y})


def range_of_inputs(program: Program, node: Range) -> Edit:
    """Rounds all that an operation moves to the range of its output.

    The result is the same, and files require one range for such an operation.
    """
    maker = program.sole_maker(node.x)
    if maker is None or len(maker.makes) > 1 or not _moves(program, maker):
        return "it is not of an operation that moves numbers"
    reads = [x for x in dict.fromkeys(maker.reads) if x.dtype.is_floating]
    before = [x for read in reads for x in _ranges_before(program, read)]
    if all(_is_alike(x, node) for x in before):
        return "what that reads has no range, or the same"
    moved = {
        x: replace(node, name=f"{node.name}_{place}").between(x, x.like())
        for place, x in enumerate(reads)
        if not _is_alike(program.maker(x), node)
    }
    read = maker.reading_moved({x: rounded.y for x, rounded in moved.items()})
    return program.with_nodes([maker], [*moved.values(), read])


def range_after_range(program: Program, node: Range) -> Edit:
    """Leaves out the wider of two ranges in a row, or adds a convolution by 1 between.

    Converters keep one of them. Both stay where files require their ends.
    """
    before = program.maker(node.x, Range)
    if before is None or _is_alike(before, node):
        return "it reads no other range"
    maker = program.sole_maker(before.x)
    if maker is None or not maker.is_a(*FIXED, *_RANGE_OF_INPUT):
        if maker and _is_wider(before, node) and program.reader(node.x):
            return program.replace(before.y, before.x)
        moved = any(_moves(program, reader) for reader in program.readers(node.y))
        if not moved and _is_wider(node, before):
            return program.replace(node.y, node.x)
    value = node.x.like()
    between = _as_map(channelwise(f"{node.name}_moved", node.x, 1.0, value))
    if not between:
        return "it is of open sizes"
    return program.with_nodes([node], [*between, node.reading(node.x, value)])


def _is_wider(node: Range, other: Range) -> bool:
    low, high = other.low + other.step, other.high - other.step
    return node.low <= low and node.high >= high


def _ranges_before(program: Program, value: Value) -> Iterator[Range]:
    """Yields the ranges that a value comes from, perhaps moved."""
    maker = program.maker(value)
    if isinstance(maker, Range):
        yield maker
    elif maker is not None and _moves(program, maker):
        for read in maker.reads:
            yield from _ranges_before(program, read)


def _is_alike(node: Node | None, own: Range) -> bool:
    """Whether a node is a range of the same ends."""
    ends = (node.low, node.high) if isinstance(node, Range) else np.inf
    return np.allclose(ends, (own.low, own.high))


def _with_steps(program: Program, node: Node) -> Iterator[Node]:
    """Yields a node, in int8 with its kernel rounded to steps."""
    known = node.is_a(Kernel, PReLU, TRANSPOSED) and _in_int8(program, node)
    if known and isinstance(node, PReLU):
        node = replace(node, slope=_in_steps(node.slope, ()))
    elif known and isinstance(node, Kernel):
        axes = {"MatMul": (), "Conv2D": (3,), "DepthwiseConv2dNative": (2, 3)}[node.of]
        if not node.binary:
            node = replace(node, weights=_in_steps(node.weights, axes))
    elif known:
        weights = program.maker(node.reads[1], Constant)
        if weights is not None:
            made = _replaced(weights, _in_steps(weights.value, (2,)))
            yield made
            node = node.reading(weights.y, made.y)
    yield node


def _in_steps(kernel: np.ndarray, channels: tuple[int, ...]) -> np.ndarray:
    """Rounds a kernel to steps, one step size for all elements that share a scale.

    The converter finds the same scales in the rounded kernel.
    """
    kernel = kernel.astype(np.float32)
    axes = tuple(axis for axis in range(kernel.ndim) if axis not in channels)
    step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.rint(kernel / np.where(step > 0, step, 1)) * step


# --- how files write it


def _outputs_apart(program: Program) -> Program:
    """Adds copies of the outputs that a node also reads.

    LCE loses such an output if a float operation or a sign reads it.
    """
    outputs, copies = list[Value](), list[Node]()
    for value in program.outputs:
        if value.dtype.is_floating and program.readers(value):
            maker = program.maker(value)
            name = "output" if maker is None else f"{maker.name}_output"
            copies.append(Copy(name, (value,), (value.like(),)))
            value = copies[-1].y
        outputs.append(value)
    nodes = [*program.nodes, *copies]
    return Program(program.inputs, nodes, outputs, program.origins)


def uneven_bias(program: Program, node: Affine | Kernel) -> Edit:
    """Changes one channel's bias in its last bit, if all channels have the same bias.

    Converters would round a uniform bias in steps of the first channel, although the
    kernels have other steps. The bias of a binary kernel stays float.
    """
    bias = np.array(node.bias if isinstance(node, Kernel) else node.b, np.float32)
    if bias.size < 2 or np.ptp(bias) or not bias[0]:
        return "its bias is not one number for several channels"
    bias[0] = np.nextafter(bias[0], np.float32(0))
    if isinstance(node, Affine):
        return program.with_nodes([node], [replace(node, b=bias)])
    if node.binary:
        return "it is binary, whose bias stays float"
    return program.with_nodes([node], [replace(node, bias=bias)])


def saturating_sign(program: Program, node: Sign) -> Edit:
    """Writes a sign as a depthwise convolution that saturates within one step."""
    makers = _up_to_steps(program, node.x)
    steps = [maker.step for maker in makers if isinstance(maker, Range)]
    return plain_sign(program, node, min(steps, default=1.0))


def weighted_mean(program: Program, node: Other) -> Edit:
    """Writes the mean of whole windows as a convolution, int8 in delegates."""
    if node.type != "AvgPool" or node.op.get_attr("data_format") != b"NHWC":
        return "it is no average of windows"
    _, *window, _ = node.op.get_attr("ksize")
    _, *strides, _ = node.op.get_attr("strides")
    if strides[0] != strides[1] or len(node.x.sizes) < 4:
        return "its strides differ, or a size is open"
    _, *sizes, channels = node.x.sizes
    pairs = zip(sizes, window, strides, strict=True)
    if not all(size % stride == 0 and k <= stride for size, k, stride in pairs):
        return "its windows are not whole, or overlap"
    mean = channelwise(node.name, node.x, 1.0, node.y)
    weights = np.full((*window, channels, 1), 1 / np.prod(window))
    whole = replace(mean, weights=weights, strides=[1, *strides, 1])
    return program.with_nodes([node], [whole])


def summed_prelu(program: Program, node: PReLU) -> Edit:
    """Writes a PReLU between two ranges as a sum, of operations that delegates have."""
    before, after = program.maker(node.x, Range), program.reader(node.y, Range)
    if before is None or after is None or not node.x.is_map:
        return "it is not of a map, between two ranges"
    if after.low >= 0:
        return "it has nothing below 0, whose range could not end there"
    ends = (before.low, before.high), (after.low, after.high)
    made = SummedPReLU(node.name, node.reads, node.makes, node.slope, *ends)
    return program.with_nodes([node], [made])
