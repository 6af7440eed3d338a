"""Rules about the shapes of maps: LCE's binary kernels are of two dimensions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from ..lite._lce_faults import missed_reach
from ._program import Node, Program, Value, affine

_RESHAPES = ("Reshape", "ExpandDims", "Squeeze")


def spell_dense(program: Program, node: Node) -> Program | None:
    """A binary dense layer is a 1x1 convolution, whose positions are its rows."""
    if node.kind != "kernel" or node["of"] != "MatMul" or not node["binary"]:
        return None
    (rows, inputs), (_, outputs) = node.x.shape or (), node.y.shape or ()
    x = Value((1, 1, rows, inputs), node.x.dtype)
    y = Value((1, 1, rows, outputs), node.y.dtype)
    convolution = {
        "of": "Conv2D",
        "kernel": node["kernel"][None, None],
        "strides": [1, 1, 1, 1],
        "padding": "VALID",
        "dilations": [1, 1, 1, 1],
    }
    made = [
        Node(f"{node.name}_map", "reshape", node.reads, (x,)),
        replace(node.with_arguments(**convolution), reads=(x,), makes=(y,)),
        Node(f"{node.name}_vector", "reshape", (y,), node.makes),
    ]
    return program.with_nodes([node], made)


def spell_dilated(program: Program, node: Node) -> Program | None:
    """Writes a convolution of a map in parts as a dilated one of all of it."""
    dilated = node.type == "BatchToSpaceND"
    kernel = program.sole_maker(node.x, "kernel") if dilated else None
    if kernel is None:
        return None
    parts = program.maker(kernel.x)
    if parts is None or parts.type != "SpaceToBatchND" or kernel["padding"] != "VALID":
        return None
    numbers = [program.maker(value) for value in (*parts.reads[1:], *node.reads[1:])]
    values = [x["value"].tolist() for x in numbers if x and x.kind == "constant"]
    known = [n for n in parts.x.shape or () if n]
    if len(values) < 4 or values[0] != values[2] or len(known) < 4:
        return None
    dilations, pads, _, crops = values
    sides = [
        tuple(np.subtract(*pair).tolist()) for pair in zip(pads, crops, strict=True)
    ]
    same = [*map(_same, known[1:3], kernel["kernel"].shape, (1, 1), dilations)]
    if sides != same and np.any(sides):
        return None
    padding = "SAME" if np.any(sides) else "VALID"
    whole = kernel.with_arguments(dilations=[1, *dilations, 1], padding=padding)
    made = replace(whole, reads=parts.reads[:1], makes=node.makes)
    return program.with_nodes([kernel, node], [made])


def is_reshape(node: Node | None) -> bool:
    return node is not None and (node.kind == "reshape" or node.type in _RESHAPES)


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
    """Moves a node before the one that it reads, if a kernel makes only that map."""
    kernel = program.sole_maker(between.x, "kernel")
    if kernel is None or program.reader(node.x) is None:
        return None
    value = between.x.like()
    moved = node.reading(node.x, between.x).making(value)
    after = between.reading(between.x, value).making(node.y)
    return program.with_nodes([between, node], [moved, after])


def pad_last(program: Program, node: Node) -> Program | None:
    """A map of one axis more is padded, of which a binary kernel reads what was."""
    if node.type != "ExpandDims" or not _leads_to_binary(program, node):
        return None
    pad, axis = program.sole_maker(node.x, "PadV2"), program.maker(node.reads[1])
    sides = None if pad is None else program.maker(pad.reads[1])
    if pad is None or sides is None or sides.kind != "constant" or axis is None:
        return None
    place = int(axis["value"]) % (len(sides["value"]) + 1)
    shape = list(pad.x.shape or ())
    value = Value([*shape[:place], 1, *shape[place:]], pad.x.dtype)
    axes = Value((len(sides["value"]) + 1, 2), pad.reads[1].dtype)
    numbers = {"value": np.insert(sides["value"], place, 0, axis=0)}
    made = [
        node.reading(node.x, pad.x).making(value),
        Node(f"{pad.name}_axes", "constant", (), (axes,), numbers),
        replace(pad, reads=(value, axes, pad.reads[2]), makes=node.makes),
    ]
    return program.with_nodes([pad, node], made)


def sign_last(program: Program, node: Node) -> Program | None:
    """The sign of a reshaped map, of which a binary kernel reads the reshaped sign."""
    if not is_reshape(node) or not _leads_to_binary(program, node):
        return None
    sign = program.maker(node.x)
    if sign is None or sign.kind != "sign":
        return None
    shift, value, made = sign["shift"], sign.x, list[Node]()
    if np.any(shift) and node.y.channels != node.x.channels:
        value, ones = sign.x.like(), np.ones_like(shift)
        made.append(affine(f"{sign.name}_shift", sign.x, ones, value, shift))
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


def _leads_to_binary(program: Program, node: Node) -> bool:
    readers = program.readers(node.y)
    return any(
        _leads_to_binary(program, reader)
        if is_reshape(reader) or reader.type == "PadV2"
        else reader.kind == "kernel" and reader["binary"]
        for reader in readers
    )


def ones_around(program: Program, node: Node) -> Program | None:
    """Of a map smaller than the kernel, what ones around it add is taken out again.

    LCE computes zeros there wrongly.
    """
    if node.kind != "kernel" or not node["binary"] or node["padding"] != "SAME":
        return None
    known, kernel = [n for n in node.x.shape or () if n], node["kernel"]
    if len(known) < kernel.ndim:
        return None
    _, *size, channels = known
    (_, *strides, _), (_, *dilations, _) = node["strides"], node["dilations"]
    if missed_reach(size, kernel.shape[:2], dilations) is None:
        return None
    inner = [(0, 0), *map(_same, size, kernel.shape, strides, dilations), (0, 0)]
    ones = np.pad(np.zeros((1, *size, channels)), inner, constant_values=1.0)
    around = tf.nn.conv2d(ones, kernel, strides, "VALID", dilations=dilations)
    excess = -node["scale"] * around.numpy()
    padded, y = Value(ones.shape, node.x.dtype), node.y.like()
    pad = Node(f"{node.name}_ones", "pad", node.reads, (padded,), {"sides": inner})
    whole = replace(node.with_arguments(padding="VALID"), reads=(padded,))
    if excess.size == excess.shape[-1]:  # of a single position
        bias = node["bias"] + excess.ravel()
        return program.with_nodes([node], [pad, whole.with_arguments(bias=bias)])
    # LCE makes what is added to a binary convolution its bias, of whatever shape.
    opposite = whole.with_arguments(kernel=-kernel, bias=-node["bias"]).making(y)
    numbers = {"value": excess.astype(np.float32)}
    rest = Node(f"{node.name}_rest", "rest", (y,), node.makes, numbers)
    return program.with_nodes([node], [pad, opposite, rest])


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """How far TensorFlow pads an axis of a "same" convolution, before and after."""
    reach = (kernel - 1) * dilation + 1
    whole = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return whole // 2, whole - whole // 2
