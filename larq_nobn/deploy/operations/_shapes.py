"""Rules about the shapes of maps: LCE's binary kernels are of two dimensions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from ..lite._lce_faults import missed_reach
from ._program import Node, Program, Value, affine

_RESHAPES = ("reshape", "Reshape", "ExpandDims", "Squeeze")


def spell_dense(program: Program, node: Node) -> Program | None:
    """A binary dense layer is a 1x1 convolution, whose positions are its rows."""
    if node.kind != "kernel" or node["of"] != "MatMul" or not node["binary"]:
        return None
    (rows, inputs), (_, outputs) = node.x.shape or (), node.y.shape or ()
    x = Value((1, 1, rows, inputs), node.x.dtype)
    y = Value((1, 1, rows, outputs), node.y.dtype)
    weights = node["kernel"][None, None]
    convolution = node.with_arguments(of="Conv2D", kernel=weights)
    made = [
        Node(f"{node.name}_map", "reshape", node.reads, (x,)),
        replace(convolution, reads=(x,), makes=(y,)),
        Node(f"{node.name}_vector", "reshape", (y,), node.makes),
    ]
    return program.with_nodes([node], made)


def is_reshape(node: Node | None) -> bool:
    return node is not None and bool({node.kind, node.type} & {*_RESHAPES})


def keeps_channels(node: Node) -> bool:
    """Whether a node is a reshape that leaves the last axis as it is."""
    return is_reshape(node) and node.x.channels == node.y.channels is not None


def before_reshape(program: Program, node: Node) -> Program | None:
    """What takes each number for itself goes before a reshape, to the kernel there."""
    if node.kind not in ("affine", "prelu") and node.type != "Relu":
        return None
    shape = program.maker(node.x)
    if shape is None or not keeps_channels(shape):
        return None
    return moved_to_kernel(program, shape, node)


def after_flatten(program: Program, node: Node) -> Program | None:
    """An affine operation goes past a flatten, to a dense layer or a sign.

    Channels are last: number j of a row is of channel j modulo their number.
    """
    flatten = program.reader(node.y) if node.kind == "affine" else None
    if flatten is None or not is_reshape(flatten) or keeps_channels(flatten):
        return None
    reader = program.reader(flatten.y)
    dense = reader is not None and reader.kind == "kernel" and not reader["binary"]
    if not dense and (reader is None or reader.kind != "sign"):
        return None
    shape = node.y.shape or ()
    sizes = [size for size in shape[1:] if size]
    if len(sizes) < len(shape) - 1:
        return None
    if flatten.y.shape != (*shape[:1], int(np.prod(sizes))):
        return None
    value, times = flatten.y.like(), int(np.prod(sizes[:-1]))
    k, b = (np.tile(node[name], times) for name in "kb")
    moved = affine(node.name, value, k, flatten.y, b)
    flat = flatten.reading(node.y, node.x).making(value)
    return program.with_nodes([node, flatten], [flat, moved])


def moved_to_kernel(program: Program, between: Node, node: Node) -> Program | None:
    """Moves a node before the one that it reads, if a kernel makes only that map.

    Or the ReLU of a binary kernel, after which LCE has a scale for free.
    """
    maker = program.sole_maker(between.x, "kernel", "Relu")
    if maker is None or program.reader(node.x) is None:
        return None
    if maker.kind != "kernel" and not is_plain_relu(program, maker):
        return None
    value = between.x.like()
    moved = node.reading(node.x, between.x).making(value)
    after = between.reading(between.x, value).making(node.y)
    return program.with_nodes([between, node], [moved, after])


def is_plain_relu(program: Program, relu: Node) -> bool:
    """Whether it is that of a binary kernel alone, without scale or bias."""
    kernel = program.sole_maker(relu.x, "kernel")
    if kernel is None or not kernel["binary"]:
        return False
    return not np.any(kernel["bias"]) and bool(np.all(kernel["scale"] == 1))


def pad_last(program: Program, node: Node) -> Program | None:
    """A map of one axis more is padded, of which a binary kernel reads what was."""
    if not is_reshape(node) or not _leads_to_binary(program, node):
        return None
    before, after = node.x.shape or (), node.y.shape or ()
    pad = program.sole_maker(node.x, "pad")
    places = [i for i, n in enumerate(after) if (*after[:i], *after[i + 1 :]) == before]
    if pad is None or 1 not in (after[i] for i in places):
        return None
    place = next(i for i in places if after[i] == 1)
    sides, shape = list(pad["sides"]), list(pad.x.shape or ())
    value = Value([*shape[:place], 1, *shape[place:]], pad.x.dtype)
    sides.insert(place, (0, 0))
    expanded = Node(node.name, "reshape", (pad.x,), (value,))
    padded = replace(pad.with_arguments(sides=sides), reads=(value,), makes=node.makes)
    return program.with_nodes([pad, node], [expanded, padded])


def sign_last(program: Program, node: Node) -> Program | None:
    """The sign of a reshaped map, of which a binary kernel reads the reshaped sign."""
    if not is_reshape(node) or not _leads_to_binary(program, node):
        return None
    sign = program.maker(node.x, "sign")
    if sign is None:
        return None
    shift, value, made = sign["shift"], sign.x, list[Node]()
    if np.any(shift) and node.y.channels != node.x.channels:
        value = sign.x.like()
        made.append(affine(f"{sign.name}_shift", sign.x, 1.0, value, shift))
        shift = np.zeros(1)
    alone = program.reader(node.x) is not None
    old, makes = [node], node.makes
    if alone:  # its own value can still be asked for
        old, makes = [node, sign], (node.y, *sign.makes)
    moved = node.y.like()
    made += [
        node.reading(node.x, value).making(moved),
        replace(sign.with_arguments(shift=shift), reads=(moved,), makes=makes),
    ]
    return program.with_nodes(old, made)


def passes(node: Node) -> bool:
    """Whether a node leaves signs what they are, and where they meet others."""
    idle = node.kind == "affine" and np.all(node["k"] == 1) and not np.any(node["b"])
    return is_reshape(node) or node.kind == "pad" or bool(idle)


def _leads_to_binary(program: Program, node: Node) -> bool:
    ends = program.ends(node.y, passes)
    return any(end.kind == "kernel" and end["binary"] for end in ends)


def trim_pad(program: Program, node: Node) -> Program | None:
    """A map is padded only as far as a strided convolution reads it.

    On a map of even size, a 3x3 convolution of stride 2 never reads the last of the
    rows and columns that padding by 1 adds. LCE takes such padding for that of a
    "same" convolution, which starts elsewhere, and computes something else.
    """
    if node.kind != "kernel" or node["padding"] != "VALID":
        return None
    pad, known = program.maker(node.x, "pad"), node.x.sizes
    if pad is None or len(known) < 4:
        return None
    sides, shape = list(pad["sides"]), list(known)
    for axis, reach in enumerate(_reaches(node), 1):
        before, after = sides[axis]
        spare = min((known[axis] - reach) % node["strides"][axis], after)
        sides[axis], shape[axis] = (before, after - spare), known[axis] - spare
    if shape == known:
        return None
    less = Value(shape, node.x.dtype)
    name = f"{pad.name}_of_{node.name.rpartition('/')[2]}"
    trimmed = replace(pad.with_arguments(sides=sides), name=name, makes=(less,))
    return program.with_nodes([node], [trimmed, node.reading(node.x, less)])


def padded_apart(program: Program, node: Node) -> Program | None:
    """A "same" convolution that never reads the last of its map is padded apart.

    That is one whose kernel is smaller than its strides along some axis. XNNPACK of
    TensorFlow 2.21 starts it elsewhere: measured, off by 16 of 24 in float32.
    """
    sides = same_sides(node, node.x) if node.kind == "kernel" else None
    if sides is None or node["padding"] != "SAME":
        return None
    given, made, strides = node.x.sizes[1:3], node.y.sizes[1:3], node["strides"][1:3]
    axes = zip(given, made, strides, _reaches(node), strict=True)
    if all((count - 1) * stride + reach >= n for n, count, stride, reach in axes):
        return None
    whole = node.with_arguments(padding="VALID")
    if not np.any(sides):
        return program.with_nodes([node], [whole])
    pad = _zeros(node, sides)
    return program.with_nodes([node], [pad, whole.reading(node.x, pad.y)])


def _reaches(kernel: Node) -> list[int]:
    """How many rows and columns a kernel covers."""
    pairs = zip(kernel["kernel"].shape[:2], kernel["dilations"][1:3], strict=True)
    return [(taps - 1) * dilation + 1 for taps, dilation in pairs]


def ones_around(program: Program, node: Node) -> Program | None:
    """Padding of signs by another number than 0 or 1 is by 1, less what that adds.

    So it is by 0 where the map is smaller than the kernel, which LCE computes wrongly.
    """
    if node.kind != "kernel" or not node["binary"] or node["of"] != "Conv2D":
        return None
    same, kernel = node["padding"] == "SAME", node["kernel"]
    pad = zeros_around(node) if same else program.maker(node.x, "pad")
    if pad is None or pad["value"] == 1 or len(pad.x.sizes) < 4:
        return None
    _, *size, channels = pad.x.sizes
    strides, dilations = node["strides"][1:3], node["dilations"][1:3]
    small = missed_reach(size, kernel.shape[:2], dilations) is not None
    if not (small or pad["value"]) and pad["sides"] == same_sides(node, pad.x):
        whole = replace(node.with_arguments(padding="SAME"), reads=pad.reads)
        return None if same else program.with_nodes([node], [whole])
    sides, less = pad["sides"], 1.0 - pad["value"]
    ones = np.pad(np.zeros((1, *size, channels)), sides, constant_values=less)
    sums = tf.nn.conv2d(ones, kernel, strides, "VALID", dilations=dilations)
    excess = -sums.numpy()
    padded, y = Value(ones.shape, node.x.dtype), node.y.like()
    around = {"sides": sides, "value": 1.0}
    made = Node(f"{node.name}_ones", "pad", pad.reads, (padded,), around)
    whole = replace(node.with_arguments(padding="VALID"), reads=(padded,))
    if excess.size == excess.shape[-1]:  # of a single position
        bias = node["bias"] + node["scale"] * excess.ravel()
        return program.with_nodes([node], [made, whole.with_arguments(bias=bias)])
    # LCE makes what is added to a binary convolution its bias, of whatever shape. And
    # it rounds what is scaled, of which the rest should be 0.
    total, one = node.y.like(), np.ones_like(node["scale"])
    opposite = whole.with_arguments(kernel=-kernel, scale=one, bias=0 * one).making(y)
    numbers = {"value": excess.astype(np.float32), "border": pad["value"]}
    rest = Node(f"{node.name}_rest", "rest", (y,), (total,), numbers)
    scaled = affine(f"{node.name}_scale", total, node["scale"], node.y, node["bias"])
    return program.with_nodes([node], [made, opposite, rest, scaled])


def pad_before_sign(program: Program, node: Node) -> Program | None:
    """Ones around signs, other than those of a "same" convolution, are signs as well.

    LCE does not know them as padding, but a sign makes them of numbers.
    """
    if node.kind != "kernel" or not node["binary"] or node["padding"] != "VALID":
        return None
    pad = program.maker(node.x, "pad")
    sign = None if pad is None else program.maker(pad.x, "sign")
    if pad is None or sign is None or pad["value"] != 1:
        return None
    if pad["sides"] == same_sides(node, pad.x):
        return None
    number = max(0.0, float(-np.min(sign["shift"])))
    wide, bits = node.x.like(), node.x.like()
    padded = replace(pad.with_arguments(value=number), reads=(sign.x,), makes=(wide,))
    name, whole = f"{node.name}_sign", sign.arguments.get("whole", sign.name)
    made = replace(sign, name=name, reads=(wide,), makes=(bits,))
    made = made.with_arguments(whole=whole, border=pad["sides"])
    return program.with_nodes([node], [padded, made, node.reading(node.x, bits)])


def zeros_around(kernel: Node) -> Node | None:
    """What a "same" convolution pads its map with; None of others."""
    if kernel.kind != "kernel" or kernel["of"] != "Conv2D":
        return None
    sides = same_sides(kernel, kernel.x)
    if kernel["padding"] != "SAME" or sides is None:
        return None
    return _zeros(kernel, sides)


def _zeros(kernel: Node, sides: list[tuple[int, int]]) -> Node:
    """What pads the map that a kernel reads."""
    pairs = zip(kernel.x.sizes, sides, strict=True)
    padded = Value([size + sum(side) for size, side in pairs], kernel.x.dtype)
    around = {"sides": sides, "value": 0.0}
    return Node(f"{kernel.name}_ends", "pad", (kernel.x,), (padded,), around)


def same_sides(kernel: Node, x: Value) -> list[tuple[int, int]] | None:
    """How far TensorFlow pads a map for a "same" convolution, if its size is known."""
    if len(x.sizes) < 4:
        return None
    steps = kernel["strides"][1:3], kernel["dilations"][1:3]
    return [(0, 0), *map(_same, x.sizes[1:3], kernel["kernel"].shape, *steps), (0, 0)]


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """How far TensorFlow pads an axis of a "same" convolution, before and after."""
    reach = (kernel - 1) * dilation + 1
    whole = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return whole // 2, whole - whole // 2
