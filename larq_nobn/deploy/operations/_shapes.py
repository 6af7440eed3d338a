"""Rules about the shapes of maps: LCE's binary kernels are of two dimensions."""

from __future__ import annotations

import operator
from dataclasses import replace

import numpy as np
import tensorflow as tf

from ..lite._lce_faults import missed_reach
from ._kinds import (
    Affine,
    Kernel,
    Node,
    Other,
    Pad,
    PReLU,
    Reshape,
    Rest,
    Sides,
    Sign,
    Through,
    Value,
)
from ._program import Edit, Origin, Program

# The relative rounding error of a whole number in float32.
_ROUNDED = 1e-6


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
