r"""Rules for int8, of what stands between the ranges of a program.

A converter makes an operation in int8 of what has a range before and after it. It
rounds kernels to 8 bits, of one step for each output channel of a convolution, and for
the whole of a dense layer or of the slopes of a PReLU. A ReLU or another clip that it
makes part of an operation is not rounded before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from ...graph._kinds import FUSED
from .._errors import ConversionError
from ..trace._names import layer_of
from ._binary import (
    BINARY,
    plain_pad,
    plain_sign,
    sign_before,
    split_groups,
    whole_kernel,
)
from ._program import (
    Node,
    Program,
    Rule,
    Value,
    affine,
    channelwise,
    everywhere,
    is_scale,
)
from ._rules import (
    before_join,
    identity_goes,
    into_kernel,
    is_shift,
    merge,
    scale_after_relu,
    scale_into_readers,
    shift_into_readers,
)
from ._shapes import (
    before_reshape,
    is_reshape,
    ones_around,
    pad_before_sign,
    pad_last,
    padded_apart,
    same_sides,
    sign_last,
    spell_dense,
)

_ENDS = {"Relu": (0.0, np.inf), "Relu6": (0.0, 6.0)}
# They give numbers of their inputs, or zeros, in other places.
_MOVES = (
    *("MaxPool", "Max", "Min", "Maximum", "Minimum", "ConcatV2", "Pack", "Unpack"),
    *("Reshape", "ExpandDims", "Squeeze", "Transpose", "StridedSlice", "Slice"),
    *("GatherV2", "DepthToSpace", "SpaceToDepth", "Tile", "Roll", "Split", "SplitV"),
)
_STEPS = ("range", "sign", "saturating", "constant")
# Its kernel is no kind of node; (height, width, output channels, input channels).
_TRANSPOSED = "Conv2DBackpropInput"


def merged(program: Program, runtime: str) -> Program:
    """Returns a program with affine operations in the kernels before them."""
    rules: tuple[Rule, ...] = (identity_goes, merge, into_kernel, into_transposed)
    rules += (before_reshape, before_join, into_kernel_of_signs)
    inner = (scale_after_relu,) if runtime == "lce" else ()
    program = everywhere(program, (*rules, *inner, *BINARY, pad_last, sign_last))
    program = everywhere(program, (split_groups, *BINARY, spell_dense, *rules))
    last: tuple[Rule, ...] = (pad_last, sign_last, spell_clip, merge_clips)
    if runtime == "lce":
        last += (leave_out_border, ones_around, pad_before_sign)
    return everywhere(program, last)


def without_ranges(program: Program) -> Program:
    """Returns a program that rounds nothing."""

    def range_goes(program: Program, node: Node) -> Program | None:
        return program.replace(node.y, node.x) if node.kind == "range" else None

    return everywhere(program, (range_goes,))


def rounded(program: Program, runtime: str) -> Program:
    """Returns a merged program that rounds where the file does, and its kernels."""
    rules: tuple[Rule, ...] = (negation, affine_alone, border_apart, range_inside)
    if runtime == "litert":
        rules = (levels_as_range, negation, range_before_affine, clip_before_join)
        rules += (affine_of_map, partial(affine_alone, shifts=True))
        rules += (range_before_moving, partial(range_inside, of_binary=True))
    rules += (range_for_clip, range_after_reshape)
    for rule in rules:
        program = everywhere(program, (rule,))
    nodes = [part for node in program.nodes for part in _with_steps(program, node)]
    return Program(program.inputs, nodes, program.outputs)


def spelled(program: Program, runtime: str) -> Program:
    """Returns a program of the operations that files have in int8."""
    rules: tuple[Rule, ...] = (uneven_bias,)
    if runtime == "lce":
        return _outputs_apart(everywhere(program, rules))
    rules += (saturating_sign, plain_pad, whole_kernel, weighted_mean, summed_prelu)
    return everywhere(program, (*rules, padded_apart))


# --- before rounding


def spell_clip(program: Program, node: Node) -> Program | None:
    """A ReLU, or a maximum or minimum with a number, cuts off beyond bounds."""
    ends, x = _ENDS.get(node.type), node.reads[:1]
    if node.type in ("Maximum", "Minimum"):
        for value, other in (node.reads, node.reads[::-1]):
            number = program.constant(other)
            if number is not None and number.size == 1 and value.shape == node.y.shape:
                end, x = float(number.item()), (value,)
                ends = (end, np.inf) if node.type == "Maximum" else (-np.inf, end)
    if ends is None:
        return None
    arguments = dict(zip(("low", "high"), ends, strict=True))
    return program.with_nodes(
        [node], [Node(node.name, "clip", x, node.makes, arguments)]
    )


def merge_clips(program: Program, node: Node) -> Program | None:
    """Two clips in a row are one."""
    before = program.sole_maker(node.x, "clip") if node.kind == "clip" else None
    if before is None:
        return None
    low, high = np.clip((before["low"], before["high"]), node["low"], node["high"])
    one = node.reading(node.x, before.x).with_arguments(
        low=float(low), high=float(high)
    )
    return program.with_nodes([before, node], [one])


def into_transposed(program: Program, node: Node) -> Program | None:
    """A factor goes into a transposed convolution, as into others."""
    if node.kind != "affine" or np.all(node["k"] == 1):
        return None
    kernel = program.sole_maker(node.x, _TRANSPOSED)
    weights = None if kernel is None else program.maker(kernel.reads[1], "constant")
    if kernel is None or weights is None:
        return None
    factor = np.broadcast_to(node["k"], kernel.y.channels or 1)
    scaled = _replaced(weights, weights["value"] * factor[:, None])
    value = node.x.like()
    made = [
        scaled,
        kernel.reading(weights.y, scaled.y).making(value),
        affine(node.name, value, 1.0, node.y, node["b"]),
    ]
    return program.with_nodes([kernel, node], made)


def into_kernel_of_signs(program: Program, node: Node) -> Program | None:
    """What is affine in signs goes into the kernels that read it."""
    if node.kind != "affine" or sign_before(program, node.x) is None:
        return None
    return scale_into_readers(program, node) or shift_into_readers(program, node)


def leave_out_border(program: Program, node: Node) -> Program | None:
    """A binary convolution that meets no zeros is not padded, which LCE asks for."""
    if node.kind != "kernel" or not node["binary"] or node["padding"] != "SAME":
        return None
    sides = same_sides(node, node.x)
    if sides is None or np.any(sides):
        return None
    return program.with_nodes([node], [node.with_arguments(padding="VALID")])


def _replaced(constant: Node, value: np.ndarray) -> Node:
    made = constant.making(constant.y.like())
    return made.with_arguments(value=value.astype(np.float32))


# --- where a file rounds


def _range(name: str, x: Value, y: Value, low: float, high: float) -> Node:
    return Node(name, "range", (x,), (y,), {"low": low, "high": high})


def step_of(node: Node) -> float:
    """The distance of two numbers of a range."""
    return float(node["high"] - node["low"]) / 255


def _is_map(value: Value) -> bool:
    return value.shape is not None and len(value.shape) == 4


def _up_to_steps(program: Program, value: Value) -> Iterator[Node | None]:
    """What makes a value, each once, back to ranges, signs, constants and inputs."""
    left, seen = [value], set[Value]()
    while left:
        read = left.pop()
        if read not in seen:
            seen.add(read)
            maker = program.maker(read)
            yield maker
            if maker is not None and maker.kind not in _STEPS:
                left += [x for x in maker.reads if x.dtype.is_floating]


def _reads_steps(program: Program, value: Value) -> bool:
    """Whether what makes a value are steps of ranges, or signs, wherever it moved."""
    makers = _up_to_steps(program, value)
    return all(m and (m.kind in _STEPS or _moves(program, m)) for m in makers)


def _moves(program: Program, node: Node) -> bool:
    """Whether a node gives numbers of its inputs, or zeros, or signs around signs."""
    if node.kind == "pad":
        return node["value"] == 0 or sign_before(program, node.x) is not None
    return node.kind in ("reshape", "joined", "channels") or node.type in _MOVES


def _is_rounded(program: Program, value: Value) -> bool:
    """Whether ranges or signs are all that reads a value, or its clips and biases."""
    return not program.is_output(value) and all(
        _is_rounded(program, reader.y)
        if reader.kind in ("clip", "copy") or is_reshape(reader) or is_shift(reader)
        else reader.kind in ("range", "sign")
        for reader in program.readers(value)
    )


def _in_int8(program: Program, node: Node) -> bool:
    reals = [x for x in node.reads if x.dtype.is_floating]
    return _is_rounded(program, node.y) and any(
        _reads_steps(program, x) for x in reals if program.constant(x) is None
    )


def clip_before_join(program: Program, node: Node) -> Program | None:
    """A clip of groups of a convolution goes before they are joined, into each."""
    join = program.sole_maker(node.x, "joined") if node.kind == "clip" else None
    if join is None or (node["low"], node["high"]) not in FUSED:
        return None
    if not all(program.sole_maker(part, "kernel") for part in join.reads):
        return None
    made = [replace(node, reads=(part,), makes=(part.like(),)) for part in join.reads]
    whole = replace(join, reads=tuple(clip.y for clip in made), makes=node.makes)
    return program.with_nodes([join, node], [*made, whole])


def levels_as_range(program: Program, node: Node) -> Program | None:
    """round(n x) / n of x from 0 to 1 are the steps of a range of n steps."""
    times = program.sole_maker(node.x, "affine") if node.type == "Round" else None
    part = program.reader(node.y, "affine")
    if times is None or part is None or not _is_map(node.x):
        return None
    clip, count = program.sole_maker(times.x, "clip"), float(times["k"].flat[0])
    scales = np.all(times["k"] == count) and np.allclose(part["k"] * count, 1)
    if clip is None or (clip["low"], clip["high"]) != (0.0, 1.0) or not scales:
        return None
    if np.any(times["b"]) or np.any(part["b"]) or not 0 < count < 256:
        return None
    # The range would end beyond 1.
    alone, cut = clip.x.like(), clip.y.like()
    made = [
        channelwise(f"{node.name}_clip", clip.x, 1.0, alone),
        clip.reading(clip.x, alone).with_arguments(low=-1.0).making(cut),
        _range(node.name, cut, part.y, 0.0, 255 / count),
    ]
    return program.with_nodes([clip, times, node, part], made)


def negation(program: Program, node: Node) -> Program | None:
    """The opposite of a map has the opposite range."""
    if node.kind != "affine" or np.any(node["k"] != -1) or np.any(node["b"]):
        return None
    before = program.maker(node.x, "range")
    if before is None or not _is_map(node.x):
        return None
    value = node.x.like()
    made = [
        channelwise(node.name, node.x, -1.0, value),
        _range(f"{node.name}_range", value, node.y, -before["high"], -before["low"]),
    ]
    return program.with_nodes([node], made)


def range_before_affine(program: Program, node: Node) -> Program | None:
    """What a range would have to follow gets the one that its affine leaves it.

    That is a binary layer that ends in a ReLU, and a sum of which a mean is a part.
    """
    maker = program.sole_maker(node.x, "clip", "sum") if node.kind == "affine" else None
    after = program.reader(node.y, "range")
    if maker is None or after is None:
        return None
    if maker.kind == "clip":
        join = program.sole_maker(maker.x, "joined")
        parts = (maker.x,) if join is None else join.reads
        kernels = [program.sole_maker(part, "kernel") for part in parts]
        known = all(kernel is not None and kernel["binary"] for kernel in kernels)
    else:  # in the same steps
        known = is_scale(node) and not np.ptp(node["k"]) and node["k"].flat[0] > 0
    if not known:
        return None
    factor = np.where(node["k"] == 0, np.inf, node["k"])
    ends = np.stack([(after[end] - node["b"]) / factor for end in ("low", "high")])
    value = node.x.like()
    low, high = min(float(ends.min()), 0.0), float(ends.max())
    own = _range(f"{maker.name}_range", node.x, value, low, high)
    return program.with_nodes([node], [own, node.reading(node.x, value)])


def affine_of_map(program: Program, node: Node) -> Program | None:
    """An affine operation of vectors or sequences is one of a map, to be alone."""
    if node.kind != "affine" or _is_map(node.x) or not _in_int8(program, node):
        return None
    if len(node.x.sizes) < max(len(node.x.shape or ()), 2):  # or some are unknown
        return None
    first, *inner, channels = node.x.sizes
    x, y = (Value((first, 1, math.prod(inner), channels), node.x.dtype) for _ in "xy")
    made = [
        Node(f"{node.name}_map", "reshape", (node.x,), (x,)),
        node.reading(node.x, x).making(y),
        Node(f"{node.name}_end", "reshape", (y,), (node.y,)),
    ]
    return program.with_nodes([node], made)


def affine_alone(program: Program, node: Node, shifts: bool = False) -> Program | None:
    """Factors that no kernel can take become a convolution of single channels.

    That is one operation in int8, where a product and a sum would stay float. So do
    shifts, if wanted: as sums with a constant they would have 8 bits.
    """
    if node.kind != "affine" or (is_shift(node) and not shifts):
        return None
    if not _is_map(node.x) or not _in_int8(program, node):
        return None
    alone = channelwise(node.name, node.x, node["k"], node.y, node["b"])
    return program.with_nodes([node], [alone])


def border_apart(program: Program, node: Node) -> Program | None:
    """A binary convolution that is padded with zeros stays float up to its range.

    LCE makes the range part of it, with a scale and a bias between, and has no kernel
    for int8 then.
    """
    if node.kind != "kernel" or not node["binary"] or node["padding"] != "SAME":
        return None
    if not any(x.kind in ("range", "affine") for x in program.readers(node.y)):
        return None
    value = node.y.like()
    apart = Node(f"{node.name}_float", "copy", (value,), (node.y,))
    return program.with_nodes([node], [node.making(value), apart])


def range_inside(
    program: Program, node: Node, of_binary: bool = False
) -> Program | None:
    """Leaves out a range before a clip that is part of an operation in a file.

    The file has none there, since it rounds once, after the clip. A range that cuts off
    what the one after it has stays: it is no matter of rounding.
    """
    clip = program.reader(node.y, "clip") if node.kind == "range" else None
    if clip is None or (clip["low"], clip["high"]) not in FUSED:
        return None
    if not _is_inner(program, node, clip, clip["low"], clip["high"]):
        return None
    if not _takes_clip(program, node.x, of_binary):
        return None
    return program.replace(node.y, node.x)


def _is_inner(
    program: Program, node: Node, reader: Node, low: float, high: float
) -> bool:
    """Whether a range cuts off nothing between bounds that the next one has."""
    after = program.reader(reader.y, "range")
    if after is None or program.maker(node.x) is None:
        return False
    if program.reader(node.x) is None or program.reader(node.y) is None:
        return False
    least, most = np.clip((node["low"], node["high"]), low, high)
    wanted = np.clip((after["low"], after["high"]), low, high)
    step = step_of(node)
    return bool(least <= wanted[0] + step and most >= wanted[1] - step)


def _takes_clip(program: Program, value: Value, of_binary: bool) -> bool:
    """Whether the converter makes a clip part of what makes a value."""
    maker = program.maker(value)
    if maker is not None and maker.kind == "affine":
        maker = program.sole_maker(maker.x, _TRANSPOSED)
    if maker is None:
        return False
    if maker.kind == "kernel":
        return of_binary or not maker["binary"]
    return maker.kind == "sum" or maker.type == _TRANSPOSED


def range_for_clip(program: Program, node: Node) -> Program | None:
    """A clip goes, since the range after it cuts off as much.

    Of a maximum or minimum with a number the converter rounds that to the range before.
    Clips that it makes part of the operation before them stay.
    """
    after = program.reader(node.y, "range") if node.kind == "clip" else None
    if after is None or (node["low"], node["high"]) in FUSED:
        return None
    low, high = node["low"], node["high"]
    before = program.maker(node.x, "range")
    if before and _is_inner(program, before, node, low, high):
        program = program.replace(before.y, before.x)
        node = program.maker(node.y) or node
    apart = not _takes_clip(program, node.x, True)  # an operation between two ranges
    step = step_of(after)
    wider = after["low"] < low - step or after["high"] > high + step
    if wider or (apart and not _is_map(node.x)):
        raise ConversionError(
            f"Layer {layer_of(node)!r} cuts off what is outside of [{low:g}, {high:g}],"
            " of which int8 has no form there. Clip to [-1, 1] (larq.activations."
            "hard_tanh) or [0, 6] (tf.nn.relu6), or convert without int8."
        )
    if not apart:
        return program.replace(node.y, node.x)
    alone = channelwise(node.name, node.x, 1.0, node.y)
    return program.with_nodes([node], [alone])


def range_before_moving(program: Program, node: Node) -> Program | None:
    """Leaves out a range before what only moves numbers, if another comes after that.

    The converter wants one range for both sides, and rounds once, to the latter.
    """
    reader = program.reader(node.y) if node.kind == "range" else None
    if reader is None or len(reader.makes) > 1:
        return None
    if not _moves(program, reader):
        return None
    if not _is_inner(program, node, reader, -np.inf, np.inf):
        return None
    return program.replace(node.y, node.x)


def range_after_reshape(program: Program, node: Node) -> Program | None:
    """The range of a mean follows the reshape that alone reads it.

    The converter makes one operation of both, which rounds otherwise than a mean. So it
    does with the range as an output, too, if that is of what is reshaped.
    """
    reader = program.reader(node.y) if node.kind == "range" else None
    if reader is None or not is_reshape(reader) or not _is_mean(program, node.x):
        return None
    value = reader.y.like()
    made = [
        reader.reading(node.y, node.x).making(value),
        node.reading(node.x, value).making(reader.y),
    ]
    return program.with_nodes([node, reader], made)


def _is_mean(program: Program, value: Value) -> bool:
    maker = program.maker(value)
    while maker is not None and is_reshape(maker):
        maker = program.maker(maker.x)
    return maker is not None and maker.type == "Mean"


def _with_steps(program: Program, node: Node) -> Iterator[Node]:
    """An operation in int8 with its kernel in steps."""
    real = node.kind == "kernel" and not node["binary"]
    known = real or node.kind == "prelu" or node.type == _TRANSPOSED
    if not (known and _in_int8(program, node)):
        yield node
    elif node.kind == "prelu":
        yield node.with_arguments(slope=_in_steps(node["slope"], ()))
    elif real:
        kernel, of = node["kernel"], node["of"]
        axes = {"MatMul": (), "Conv2D": (3,), "DepthwiseConv2dNative": (2, 3)}[of]
        yield node.with_arguments(kernel=_in_steps(kernel, axes))
    else:
        weights = program.maker(node.reads[1], "constant")
        if weights is not None:
            made = _replaced(weights, _in_steps(weights["value"], (2,)))
            yield made
            node = node.reading(weights.y, made.y)
        yield node


def _in_steps(kernel: np.ndarray, channels: tuple[int, ...]) -> np.ndarray:
    """A kernel in steps, one for all elements that the file scales alike.

    Of the rounded kernel the converter finds the same scales again.
    """
    kernel = kernel.astype(np.float32)
    axes = tuple(axis for axis in range(kernel.ndim) if axis not in channels)
    step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    return np.rint(kernel / np.where(step > 0, step, 1)) * step


# --- how files spell it


def _outputs_apart(program: Program) -> Program:
    """Copies of those outputs that a node reads, too.

    LCE loses such an output where a float operation or a sign reads it.
    """
    outputs, copies = list[Value](), list[Node]()
    for value in program.outputs:
        if value.dtype.is_floating and program.readers(value):
            maker = program.maker(value)
            name = "output" if maker is None else f"{maker.name}_output"
            copies.append(Node(name, "copy", (value,), (value.like(),)))
            value = copies[-1].y
        outputs.append(value)
    return Program(program.inputs, [*program.nodes, *copies], outputs)


def uneven_bias(program: Program, node: Node) -> Program | None:
    """A bias of one number for all channels differs in the last bit of one of them.

    Converters would round it in steps of the first channel, for kernels of any steps.
    That of a binary kernel stays float.
    """
    name = {"affine": "b", "kernel": "bias"}.get(node.kind, "")
    bias = np.float32(node.arguments.get(name, 0.0))
    if node.arguments.get("binary") or bias.size < 2:
        return None
    if np.ptp(bias) or not bias.flat[0]:
        return None
    bias.flat[0] = np.nextafter(bias.flat[0], np.float32(0))
    return program.with_nodes([node], [node.with_arguments(**{name: bias})])


def saturating_sign(program: Program, node: Node) -> Program | None:
    """A sign of steps is a depthwise convolution that saturates within one of them."""
    if node.kind != "sign":
        return None
    makers = _up_to_steps(program, node.x)
    steps = [step_of(m) for m in makers if m is not None and m.kind == "range"]
    return plain_sign(program, node, min(steps, default=1.0))


def weighted_mean(program: Program, node: Node) -> Program | None:
    """The mean of whole windows is a convolution, which delegates have in int8."""
    if node.type != "AvgPool" or node["op"].get_attr("data_format") != b"NHWC":
        return None
    _, *window, _ = node["op"].get_attr("ksize")
    _, *strides, _ = node["op"].get_attr("strides")
    if strides[0] != strides[1] or len(node.x.sizes) < 4:
        return None
    _, *sizes, channels = node.x.sizes
    pairs = zip(sizes, window, strides, strict=True)
    if not all(size % stride == 0 and k <= stride for size, k, stride in pairs):
        return None
    mean = channelwise(node.name, node.x, 1.0, node.y)
    kernel = np.full((*window, channels, 1), 1 / np.prod(window))
    whole = mean.with_arguments(kernel=kernel, strides=[1, *strides, 1])
    return program.with_nodes([node], [whole])


def summed_prelu(program: Program, node: Node) -> Program | None:
    """A PReLU between two ranges is a sum, of operations that delegates have."""
    if node.kind != "prelu" or not _is_map(node.x):
        return None
    before, after = program.maker(node.x), program.reader(node.y)
    if before is None or after is None or {before.kind, after.kind} != {"range"}:
        return None
    if after["low"] >= 0:  # nothing below 0, whose range could not end there
        return None
    ends = [(x["low"], x["high"]) for x in (before, after)]
    made = node.with_arguments(ends=ends[0], range_after=ends[1])
    return program.with_nodes([node], [replace(made, kind="summed")])
