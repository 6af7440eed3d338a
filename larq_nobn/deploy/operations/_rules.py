r"""Local rules: each rewrites a few operations into fewer that compute the same.

With numbers per channel k and b, an affine operation is y = k x + b. For a kernel W
that is linear, and f that is positively homogeneous (a ReLU, a PReLU):

\[ k (W x) + b = (k W) x + b, \quad W (x + b) = W x + W b, \quad
   f(k x) = k f(x), \quad
   \operatorname{sign}(k x + b) = \operatorname{sign}(x + b / k) \]

for k > 0 in the last two. Pools, means and concatenations let k > 0 and b pass, and
k u + w is k (u + w / k). A binary kernel is ±1 with a scale after it, which LCE makes
part of the convolution, as it does a bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...graph import _thresholds
from ._binary import BINARY, PLAIN, split_groups
from ._program import Node, Program, Rule, Value, affine, everywhere, is_scale
from ._shapes import (
    after_flatten,
    before_reshape,
    is_plain_relu,
    is_reshape,
    keeps_channels,
    moved_to_kernel,
    ones_around,
    pad_before_sign,
    pad_last,
    sign_last,
    spell_dense,
    trim_pad,
)

# Their outputs are positively homogeneous in their inputs.
_HOMOGENEOUS = ("Relu", "LeakyRelu")
_POOLS = ("MaxPool", "AvgPool")
_RELUS = ("Relu", "Relu6")
_SIGNS = ("sign", "Sign")
# LCE fuses these into a binary convolution.
_FUSED = ("Mul", "AddV2", "Add", "Sub", "RealDiv")
# A factor between these does not bring float32 near its ends.
_LEAST_FACTOR, _MOST_FACTOR = 2.0**-20, 2.0**20
# Beside a shift of so many times a map, float32 loses two of its seven digits.
_FAR = 100.0
# What is left of float64 numbers that cancel.
_CANCELLED = 1e-13
# A threshold is halfway between two whole numbers, but for rounding in float64.
_HALFWAY = 1e-6


def reduced(program: Program) -> Program:
    """Returns a program of the same function, of fewer operations."""
    program = everywhere(program, (*RULES, *BINARY, pad_last, sign_last))
    program = everywhere(program, (split_groups, *BINARY, spell_dense, *RULES))
    rules, moves = (*RULES, scale_into_all), (scale_into_all, affine_into_parts)
    program = _cheaper(program, "affine", moves, rules)
    program = _cheaper(program, "sign", (shift_into_maker,), RULES)
    last = (clear_threshold, drop_scale, pad_last, sign_last, trim_pad)
    return everywhere(program, last)


def spelled(program: Program, runtime: str) -> Program:
    """Returns a program as the converter of a runtime reads it."""
    last: tuple[Rule, ...] = (ones_around, pad_before_sign, sign_of_signs)
    last += (compare_sum_with_sign, keep_apart)
    last = PLAIN if runtime == "litert" else last
    return everywhere(program, (spell_levels, *last))


def spell_levels(program: Program, node: Node) -> Program | None:
    """Rounding to a few numbers is written out in a file of floats.

    A converter would make int8 of what pads the map, and round that too.
    """
    if node.kind == "range":
        low, high, count = node["low"], node["high"], 255
    elif node.type == "FakeQuantWithMinMaxArgs":
        names = ("min", "max", "num_bits", "narrow_range")
        low, high, bits, narrow = (node["op"].get_attr(name) for name in names)
        count = 2**bits - 1 - narrow
    else:
        return None
    step = np.float32(high - low) / np.float32(count)
    # One of them is 0, as many steps above the lowest as TensorFlow rounds it to.
    zero = np.float32(np.clip(np.floor(0.5 - np.float32(low) / step), 0, count))
    low, high = -zero * step, np.float32(count - zero) * step
    ends = {"low": low, "high": high, "step": step, "zero": zero}
    spelled = Node(node.name, "levels", node.reads[:1], node.makes, ends)
    return program.with_nodes([node], [spelled])


def is_shift(node: Node) -> bool:
    return node.kind == "affine" and bool(np.all(node["k"] == 1))


def identity_goes(program: Program, node: Node) -> Program | None:
    empty = node.kind == "pad" and not np.any(node["sides"])
    if not empty and not (is_shift(node) and is_scale(node)):
        return None
    return program.replace(node.y, node.x)


def merge(program: Program, node: Node) -> Program | str:
    """Two affine operations in a row are one."""
    if node.kind != "affine":
        return "it is no affine operation"
    before = program.sole_maker(node.x, "affine")
    if before is None:
        return "no affine operation makes what it alone reads"
    k, b = node["k"] * before["k"], node["k"] * before["b"] + node["b"]
    merged = node.reading(node.x, before.x).with_arguments(k=k, b=b)
    return program.with_nodes([before, node], [merged])


def into_kernel(program: Program, node: Node) -> Program | str:
    """An affine operation becomes part of the kernel before it.

    Of a binary one, of its scale and bias; where k < 0, its signs are the opposite.
    """
    if node.kind != "affine":
        return "it is no affine operation"
    kernel = program.sole_maker(node.x, "kernel")
    if kernel is None:
        return "no kernel makes what it alone reads"
    k, bias = node["k"], node["k"] * kernel["bias"] + node["b"]
    if kernel["binary"]:
        signs = kernel["kernel"] * np.where(k < 0, -1.0, 1.0)
        scale = kernel["scale"] * np.abs(k)
        made = kernel.with_arguments(kernel=signs, scale=scale, bias=bias)
    else:
        made = kernel.with_arguments(kernel=_by_channel(kernel, k), bias=bias)
    return program.with_nodes([kernel, node], [made.making(node.y)])


def before_join(program: Program, node: Node) -> Program | None:
    """An affine operation after a concatenation of channels goes to kernels there."""
    join = program.sole_maker(node.x, "joined") if node.kind == "affine" else None
    if join is None or not all(program.sole_maker(x, "kernel") for x in join.reads):
        return None
    numbers = zip(*(np.split(node[n], _ends_of(join)) for n in "kb"), strict=True)
    made = [
        affine(f"{node.name}_{i}", part, k, part.like(), b)
        for i, (part, (k, b)) in enumerate(zip(join.reads, numbers, strict=True))
    ]
    whole = replace(join, reads=tuple(part.y for part in made), makes=node.makes)
    return program.with_nodes([join, node], [*made, whole])


def scale_beside_signs(program: Program, node: Node) -> Program | None:
    """A factor k > 0 becomes part of a kernel that signs read beside it.

    sign(x + b) is sign(k x + k b).
    """
    if node.kind != "affine" or not is_scale(node) or np.any(node["k"] <= 0):
        return None
    kernel = program.maker(node.x, "kernel")
    signs = [reader for reader in program.readers(node.x) if reader is not node]
    if kernel is None or program.is_output(node.x):
        return None
    if any(reader.kind != "sign" for reader in signs):
        return None
    k, read = node["k"], [sign.reading(node.x, node.y) for sign in signs]
    made = [sign.with_arguments(shift=sign["shift"] * k) for sign in read]
    scaled = _times(kernel, k)[0].making(node.y)
    return program.with_nodes([kernel, node, *signs], [scaled, *made])


def _is_depthwise(kernel: Node) -> bool:
    return bool(kernel["of"] == "DepthwiseConv2dNative")


def into_sign(program: Program, node: Node) -> Program | None:
    """An affine operation with k > 0 before a sign is its shift."""
    if node.kind != "sign":
        return None
    before = program.maker(node.x, "affine")
    if before is None or np.any(before["k"] <= 0):
        return None
    shift = _shift_of(before["k"], before["b"] + node["shift"])
    if np.any(shift) and program.reader(before.y) is None:
        return None  # the affine operation would stay, beside a shift
    made = node.reading(node.x, before.x).with_arguments(shift=shift)
    return program.with_nodes([node], [made])


def sign_of_tanh(program: Program, node: Node) -> Program | None:
    """The sign of tanh(x) + b is that of x + artanh(b), and of b beyond -1 and 1."""
    if node.kind != "sign" or np.any(np.abs(node["shift"]) == 1):
        return None
    tanh, shape, value = program.maker(node.x), None, node.x
    if tanh is not None and keeps_channels(tanh) and program.reader(node.x):
        shape, tanh, value = tanh, program.maker(tanh.x), node.x.like()
    if tanh is None or tanh.type != "Tanh":
        return None
    shift = np.clip(node["shift"], -1, 1)
    with np.errstate(divide="ignore"):
        made = node.with_arguments(shift=np.arctanh(shift))
    if shape is None:
        return program.with_nodes([node], [made.reading(node.x, tanh.x)])
    shaped = shape.reading(shape.x, tanh.x).making(value)
    return program.with_nodes([node, shape], [shaped, made.reading(node.x, value)])


def sign_of_signs(program: Program, node: Node) -> Program | None:
    """TensorFlow's sign of a sum of two signs is that, clipped to -1 and 1.

    As Larq's ternary quantizer has it; LCE would make a plain sign of the first.
    """
    total = program.maker(node.x, "sum") if node.type == "Sign" else None
    if total is None or not all(program.maker(x, *_SIGNS) for x in total.reads):
        return None
    clip = Node(node.name, "clip", node.reads, node.makes, {"low": -1.0, "high": 1.0})
    return program.with_nodes([node], [clip])


def compare_sum_with_sign(program: Program, node: Node) -> Program | None:
    """Larq's sign of sign(x) + y is to LCE the spelling of sign(x): it is compared."""
    if node.kind != "sign" or np.any(node["shift"]) or "compared" in node.arguments:
        return None
    total = program.maker(node.x, "sum")
    if total is None or not any(program.maker(x, *_SIGNS) for x in total.reads):
        return None
    return program.with_nodes([node], [node.with_arguments(compared=True)])


def keep_apart(program: Program, node: Node) -> Program | None:
    """What LCE would merge wrongly reads a copy, which it does not merge.

    LCE makes one sign of sign(sign(x) + y), whatever y is. And it multiplies and adds
    what stands after a binary convolution into its scale and bias, whatever shape it
    has. Measured: constants of shape (1, C), (H, 1, 1) and (H, W, C) give files that
    cannot allocate their tensors, (1, 1, C) of mixed signs before a sign one that is
    off by 17, and some crash the converter.
    """
    apart: list[Value] = []
    if node.type == "Sign":
        total = program.maker(node.x)
        if total is not None and any(program.maker(x, *_SIGNS) for x in total.reads):
            apart = [node.x]
    elif node.kind == "sum" or node.type in _FUSED:
        wide = any(_is_wide(program.maker(x)) for x in node.reads)
        apart = [x for x in node.reads if wide and _is_after_binary(program, x)]
    if not apart:
        return None
    value = apart[0].like()
    copy = Node(f"{node.name}_apart", "copy", (apart[0],), (value,))
    return program.with_nodes([node], [copy, node.reading(apart[0], value)])


def _is_wide(node: Node | None) -> bool:
    return node is not None and node.kind == "constant" and len(node.y.shape or ()) > 1


def _is_after_binary(program: Program, value: Value) -> bool:
    """Whether LCE fuses all that made a value into a binary convolution."""
    node = program.maker(value)
    while node is not None and node.kind in ("affine", "clip", "sum", "other"):
        makers = [program.maker(x) for x in node.reads]
        maps = [m for m in makers if m is None or m.kind != "constant"]
        node = maps[0] if len(maps) == 1 else None
    return node is not None and node.kind == "kernel" and bool(node["binary"])


def scale_after_relu(program: Program, node: Node) -> Program | None:
    """LCE makes a ReLU part of a binary convolution before its scale, not after."""
    if node.kind != "kernel" or not node["binary"] or np.any(node["bias"]):
        return None
    relu = program.reader(node.y, "Relu")
    if relu is None or np.all(node["scale"] == 1):
        return None
    value = relu.y.like()
    scale = affine(f"{node.name}_scale", value, node["scale"], relu.y)
    whole = node.with_arguments(scale=np.ones_like(node["scale"]))
    return program.with_nodes([node, relu], [whole, relu.making(value), scale])


def scale_into_readers(program: Program, node: Node) -> Program | None:
    """A factor k > 0 goes into all that reads it, if one at most hands it on."""
    readers = program.readers(node.y)
    handing = [r for r in readers if r.kind not in ("kernel", "sign")]
    if len(handing) > 1 or (handing and _is_after_relu(program, node)):
        return None
    return scale_into_all(program, node)


def scale_into_all(program: Program, node: Node) -> Program | None:
    """A factor k > 0 goes into all that reads it; a shift b before it stays, as b / k.

    Signs lose it, kernels contain it, and what is homogeneous in its inputs hands it
    on, as a sum does whose other part can be divided by it. What is linear takes k < 0,
    too, and k = 0 where there is no shift.
    """
    if node.kind != "affine" or np.all(node["k"] == 1):
        return None
    k, b = node["k"], node["b"]
    fits = (np.abs(k) > _LEAST_FACTOR) & (np.abs(k) < _MOST_FACTOR)
    if not np.all(fits | ((k == 0) & (b == 0))):
        return None
    linear = all(_is_linear(program, reader) for reader in program.readers(node.y))
    if np.any(k <= 0) and not linear:
        return None
    shift = affine(node.name, node.x, 1.0, node.x.like(), b / np.where(k == 0, 1, k))
    return _into_readers(program, shift, affine(node.name, shift.y, k, node.y))


def shift_into_readers(program: Program, node: Node) -> Program | None:
    """A shift goes into all that reads it, if all of them can take it.

    Signs, kernels that meet all of their input everywhere, affine operations, and
    sums, pools and concatenations, which hand it on. A factor before it stays.
    """
    if node.kind != "affine" or not np.any(node["b"]):
        return None
    kinds = {reader.kind for reader in program.readers(node.y)}
    if kinds - {"sign", "kernel", "affine"} and _is_after_relu(program, node):
        return None  # where it costs nothing
    scale = affine(node.name, node.x, node["k"], node.x.like())
    return _into_readers(
        program, scale, affine(node.name, scale.y, 1.0, node.y, node["b"])
    )


def _into_readers(program: Program, first: Node, last: Node) -> Program | None:
    """Of two parts of an affine operation, all that reads it contains the last."""
    readers, k, b = program.readers(last.y), last["k"], last["b"]
    if not readers or program.is_output(last.y):
        return None
    if not all(_takes(program, last, reader) for reader in readers):
        return None
    old = [node for node in (program.maker(last.y), *readers) if node is not None]
    new = [first]
    for reader in readers:
        read = reader.reading(last.y, first.y)
        if reader.kind == "sign":
            new.append(read.with_arguments(shift=_shift_of(k, b + reader["shift"])))
        elif reader.kind == "affine":
            shift = reader["b"] + reader["k"] * b
            new.append(read.with_arguments(k=reader["k"] * k, b=shift))
        elif reader.kind == "kernel":
            weights = reader["kernel"] * _by_input(reader, k)
            bias = reader["bias"] + _response(reader, b)
            new.append(read.with_arguments(kernel=weights, bias=bias))
        else:
            if reader.kind == "sum" and np.any(k != 1):
                other = _other_part(program, last, reader)
                if other is None or other in old:  # of two sums
                    return None
                old.append(other)
                new += _times(other, 1 / k)
            made = reader.y.like()
            scale = _spread(reader, last.y, k, 1.0)
            shift = _spread(reader, last.y, b, 0.0)
            new += [read.making(made), affine(last.name, made, scale, reader.y, shift)]
    return program.with_nodes(old, new)


def _shift_of(k: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The shift of the sign that sign(k x + b) is for k > 0."""
    return np.asarray(_thresholds.threshold_of_affine(k, b).shift(), np.float64)


def _takes(program: Program, part: Node, reader: Node) -> bool:
    """Whether what reads a factor, or a shift, can contain it or hand it on."""
    if reader.reads.count(part.y) != 1:
        return False
    if reader.kind in ("sign", "affine"):
        return True
    if not np.any(part["b"]):
        if reader.kind == "kernel":
            return not reader["binary"] or bool(np.all(np.abs(part["k"]) == 1))
        if reader.kind == "sum":
            return _other_part(program, part, reader) is not None
        return _passes_factor(program, reader)
    if reader.kind == "kernel":
        single = reader["kernel"].shape[:2] == (1, 1) and not _is_depthwise(reader)
        return not reader["binary"] and (reader["padding"] == "VALID" or single)
    if reader.kind == "sum" or reader.type in _POOLS:
        return True
    return _hands_on(program, reader)


def _hands_on(program: Program, node: Node) -> bool:
    """Whether a node averages, picks the largest, joins or only reshapes channels."""
    reduces = _reduces(program, node, "Mean", "Max")
    return reduces or node.kind == "joined" or keeps_channels(node)


def _is_linear(program: Program, node: Node) -> bool:
    """Whether a factor of either sign goes through a node, to no more numbers."""
    if node.kind in ("kernel", "affine") or node.type == "AvgPool":
        return True
    return _reduces(program, node, "Mean") or keeps_channels(node)


def _other_part(program: Program, node: Node, added: Node) -> Node | None:
    """What makes the other part of a sum, if it can be divided by a factor there."""
    value = next(x for x in added.reads if x is not node.y)
    other = program.sole_maker(value, "kernel", "affine", "prelu", *_HOMOGENEOUS)
    if other is None or other.kind in ("kernel", "affine"):
        return other
    return other if _scales_before(program, other) else None


def _times(node: Node, factor: np.ndarray) -> list[Node]:
    """What makes as many times as much; after a ReLU, with a factor for before it."""
    if node.kind == "affine":
        return [node.with_arguments(k=node["k"] * factor, b=node["b"] * factor)]
    if node.kind != "kernel":
        value = node.y.like()
        return [node.making(value), affine(node.name, value, factor, node.y)]
    bias = node["bias"] * factor
    if node["binary"]:
        return [node.with_arguments(scale=node["scale"] * factor, bias=bias)]
    return [node.with_arguments(kernel=_by_channel(node, factor), bias=bias)]


def _by_channel(kernel: Node, factor: np.ndarray) -> np.ndarray:
    weights: np.ndarray = kernel["kernel"]
    shape = weights.shape[-2:] if _is_depthwise(kernel) else factor.shape
    return weights * factor.reshape(shape)


def _by_input(kernel: Node, numbers: np.ndarray) -> np.ndarray:
    """Numbers of input channels beside the last two axes of a kernel."""
    if _is_depthwise(kernel):
        return numbers[:, None]
    groups = kernel["groups"]
    filters = kernel["kernel"].shape[-1] // groups
    return np.repeat(numbers.reshape(groups, -1), filters, axis=0).T


def _reduces(program: Program, node: Node, *types: str) -> bool:
    """Whether a node reduces maps, and not over channels."""
    if node.type not in types:
        return False
    axes, rank = program.constant(node.reads[1]), len(node.x.shape or ())
    return axes is not None and rank > 0 and rank - 1 not in np.ravel(axes % rank)


def _spread(node: Node, value: Value, numbers: np.ndarray, rest: float) -> np.ndarray:
    """Numbers per channel of one of a node's inputs, as those of its output."""
    if node.kind != "joined":
        return numbers
    parts = [
        numbers if part is value else np.full(part.channels or 1, rest)
        for part in node.reads
    ]
    return np.concatenate(parts)


def affine_into_parts(program: Program, node: Node) -> Program | None:
    """k (u + w) + b is (k u + b) + k w, of which a kernel that makes u has the first.

    One operation stays of the two, whatever the sign of k.
    """
    if node.kind != "affine" or is_scale(node) or is_shift(node):
        return None
    whole = program.sole_maker(node.x, "sum")
    if whole is None:
        return None
    u, w = sorted(whole.reads, key=lambda x: not program.sole_maker(x, "kernel"))
    if not program.sole_maker(u, "kernel"):
        return None
    first, second = u.like(), w.like()
    made = [
        affine(node.name, u, node["k"], first, node["b"]),
        affine(f"{node.name}_rest", w, node["k"], second),
        whole.reading(u, first).reading(w, second).making(node.y),
    ]
    return program.with_nodes([node, whole], made)


def shift_into_parts(program: Program, node: Node) -> Program | None:
    """A shift of a sum or a concatenation goes into what makes its parts."""
    whole = program.sole_maker(node.x, "sum", "joined") if is_shift(node) else None
    takers = [] if whole is None else _takers(program, whole, node["b"])
    if whole is None or not takers:
        return None
    made = [_with_shift(taker, b) for taker, b in takers]
    old = [node, whole, *(taker for taker, _ in takers)]
    return program.with_nodes(old, [*made, whole.making(node.y)])


def _takers(
    program: Program, maker: Node | None, b: np.ndarray
) -> list[tuple[Node, np.ndarray]]:
    """What can add b to a map for free, or to its parts; none if nothing can."""
    if maker is None or _adds_for_free(program, maker):
        return [(maker, b)] if maker else []
    if maker.kind not in ("sum", "joined"):
        return []
    parts, shifts = maker.reads, [b] * len(maker.reads)
    if maker.kind == "joined":
        shifts = np.split(b, _ends_of(maker))
    found = [
        _takers(program, program.sole_maker(part), shift)
        for part, shift in zip(parts, shifts, strict=True)
        if np.any(shift)
    ]
    if maker.kind == "sum":
        return next(filter(None, found), [])
    return [taker for takers in found for taker in takers] if all(found) else []


def _ends_of(join: Node) -> np.ndarray:
    """After how many channels each but the last of the parts ends."""
    return np.cumsum([part.channels or 1 for part in join.reads])[:-1]


def _adds_for_free(program: Program, node: Node) -> bool:
    """Whether a shift of what a node makes costs nothing.

    Of a kernel it is the bias, and affine operations may have a shift. LCE makes it
    part of a binary convolution, too, whose ReLU is before the scale.
    """
    if node.kind == "affine" and np.any(node["b"]):
        return True
    return node.kind == "kernel" or _is_after_relu(program, node)


def _is_after_relu(program: Program, node: Node) -> bool:
    relu = program.sole_maker(node.x, "Relu") if node.kind == "affine" else None
    return relu is not None and is_plain_relu(program, relu)


def _with_shift(node: Node, b: np.ndarray) -> Node:
    name = "bias" if node.kind == "kernel" else "b"
    return node.with_arguments(**{name: node[name] + b})


def before_pool(program: Program, node: Node) -> Program | None:
    """An affine operation after a pool goes before it, into the kernel there."""
    pool = program.maker(node.x, *_POOLS) if node.kind == "affine" else None
    if pool is None or (pool.type == "MaxPool" and np.any(node["k"] < 0)):
        return None
    return moved_to_kernel(program, pool, node)


def into_product(program: Program, node: Node) -> Program | None:
    """A factor after a product with numbers per channel becomes part of these."""
    if node.kind != "affine" or np.all(node["k"] == 1):
        return None
    edit = _times_product(program, node.x, node["k"])
    if edit is None:
        return None
    old, made = edit
    shift = node.with_arguments(k=np.ones_like(node["k"]))
    return program.with_nodes([*old, node], [*made, shift])


def _times_product(
    program: Program, value: Value, k: np.ndarray
) -> tuple[list[Node], list[Node]] | None:
    """The nodes that make k times a product, with those in whose place they are."""
    product = program.sole_maker(value, "Mul")
    for x in () if product is None else product.reads:
        constant, scale = program.maker(x, "constant"), program.sole_maker(x, "affine")
        if product is None or x.channels != value.channels:
            continue
        if constant is not None:
            new, numbers = x.like(), constant["value"]
            scaled = constant.with_arguments(value=(numbers * k).astype(numbers.dtype))
            return [product], [scaled.making(new), product.reading(x, new)]
        if scale is not None and is_scale(scale):
            return [scale], [scale.with_arguments(k=scale["k"] * k)]
        if (edit := _times_product(program, x, k)) is not None:
            return edit
    return None


def before_relu(program: Program, node: Node) -> Program | None:
    """A factor k > 0 after a ReLU goes before it, into the kernel or product there."""
    if node.kind != "affine" or np.all(node["k"] == 1) or np.any(node["k"] <= 0):
        return None
    relu = program.sole_maker(node.x, "prelu", *_HOMOGENEOUS)
    if relu is None or not _scales_before(program, relu):
        return None
    first, last = relu.x.like(), relu.y.like()
    made = [
        affine(node.name, relu.x, node["k"], first),
        relu.reading(relu.x, first).making(last),
        affine(node.name, last, 1.0, node.y, node["b"]),
    ]
    return program.with_nodes([relu, node], made)


def _scales_before(program: Program, relu: Node) -> bool:
    """Whether a kernel or product before a ReLU can take a factor of it.

    Of binary ones LCE makes a plain ReLU part, before their scale.
    """
    before = program.sole_maker(relu.x, "affine")
    product = relu.x if before is None else before.x
    if _times_product(program, product, np.ones(1)) is not None:
        return True
    kernel = program.sole_maker(relu.x, "kernel")
    return kernel is not None and not (kernel["binary"] and relu.type == "Relu")


def _response(kernel: Node, b: np.ndarray) -> np.ndarray:
    """What a kernel makes of a constant per channel, where it meets nothing else.

    It is 0 where only rounding of the terms is left of it.
    """
    weights = kernel["kernel"].astype(float)

    def sums(weights: np.ndarray, b: np.ndarray) -> np.ndarray:
        taps = weights.sum(axis=tuple(range(weights.ndim - 2))) * _by_input(kernel, b)
        return np.ravel(taps) if _is_depthwise(kernel) else taps.sum(axis=0)

    total, size = sums(weights, b), sums(np.abs(weights), np.abs(b))
    return np.where(np.abs(total) > _CANCELLED * size, total, 0.0)


def opposite_sign(program: Program, node: Node) -> Program | None:
    """sign(k x + b) with k < 0 is the opposite of a sign of x, which kernels undo.

    That is -1 at its threshold, which is moved to between two sums if x is one.
    """
    k, readers = node.arguments.get("k"), program.readers(node.y)
    if k is None or np.all(k > 0) or np.any(np.abs(k) < _LEAST_FACTOR):
        return None
    if program.is_output(node.y) or any(x.kind != "sign" for x in readers):
        return None
    if any(map(program.is_output, (sign.y for sign in readers))):
        return None  # which only kernels undo
    kernels = [kernel for sign in readers for kernel in program.readers(sign.y)]
    plain = ("binary", True), ("groups", 1), ("of", "Conv2D")
    if not kernels or any(x.arguments.get(n) != y for x in kernels for n, y in plain):
        return None
    old, new, turn = [node, *readers], list[Node](), np.where(k < 0, -1.0, 1.0)
    for sign in readers:
        limit = _thresholds.threshold_of_affine(k, node["b"] + sign["shift"])
        step, shift = _step_of_sums(program, node.x), limit.shift()
        if step is not None:
            shift = -_thresholds.between_steps(limit.value, step, limit.negated)
        bits = sign.y.like()
        opposite = (k < 0) ^ sign.arguments.get("opposite", False)
        own = sign.with_arguments(shift=np.asarray(shift, float), opposite=opposite)
        new.append(own.reading(node.y, node.x).making(bits))
        for kernel in program.readers(sign.y):
            weights = kernel["kernel"] * turn[:, None]
            turned = kernel.with_arguments(kernel=weights)
            old.append(kernel)
            new.append(turned.reading(sign.y, bits))
    return program.with_nodes(old, new)


def _step_of_sums(program: Program, value: Value) -> np.ndarray | None:
    """The step of which a map is whole multiples, as sums of ±1 are; None of others."""
    node = program.maker(value)
    while node is not None and node.type in ("MaxPool", "Relu"):
        node = program.maker(node.x)
    if node is None or not _sums_whole_numbers(program, node):
        return None
    scale = node["scale"]
    return scale if not np.any(node["bias"]) and np.all(scale > 0) else None


def _sums_whole_numbers(program: Program, node: Node) -> bool:
    """Whether it is a binary kernel that signs meet, and whole numbers around them."""
    if node.kind != "kernel" or not node["binary"]:
        return False
    before = program.maker(node.x)
    while before is not None and before.kind != "sign":
        if before.kind == "pad" and before["value"] % 1:
            return False
        before = program.maker(before.x)
    return True


RULES: tuple[Rule, ...] = (
    identity_goes,
    merge,
    into_kernel,
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
    """How many operations add, multiply or rectify on their own."""
    return sum(_cost(program, node) for node in program.nodes)


def _cost(program: Program, node: Node) -> int:
    if node.kind == "affine" and not _is_after_relu(program, node):
        return int(np.any(node["k"] != 1)) + int(np.any(node["b"]))
    if node.type in _RELUS:  # which is part of what makes its input alone
        return int(not program.sole_maker(node.x, "kernel", "sum", "affine"))
    return int(node.kind == "sign" and np.any(node["shift"]))


def _cheaper(
    program: Program, kind: str, moves: Sequence[Rule], rules: Sequence[Rule]
) -> Program:
    """Moves numbers of nodes of a kind where that saves some operation in the end."""
    tried = set[Node]()
    while True:
        waiting = (n for n in program.nodes if n.kind == kind and n not in tried)
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


def shift_into_maker(program: Program, sign: Node) -> Program | None:
    """The kernel that makes what a sign reads has its shift; others read it without.

    k max(x) + b is k max(x + b / k), where k < 0, too.
    """
    if not np.any(sign["shift"]):
        return None
    maker, shift = program.maker(sign.x), sign["shift"]
    moved = shift
    while maker and _lets_shift_pass(maker) and program.reader(maker.x):
        if maker.kind == "affine":
            moved = moved / maker["k"]
        maker = program.maker(maker.x)
    if maker is None:
        return None
    takers = _takers(program, maker, moved)
    if len(takers) != 1:
        return None
    taker, moved = takers[0]
    others = [node for node in program.readers(sign.x) if node is not sign]
    if (others or program.is_output(sign.x)) and _drowns(taker, moved):
        return None
    ends = program.ends(sign.x, lambda x: _passes_factor(program, x))
    tells = any(end is not sign and {end.kind, end.type} & {*_SIGNS} for end in ends)
    if tells and _sums_whole_numbers(program, taker) and not np.any(taker["bias"]):
        return None  # which sees where sums are 0, as they would not be quite
    # What else reads the map has the shift taken out again.
    back = affine(f"{sign.name}_back", sign.x, 1.0, sign.x.like(), -shift)
    made = [_with_shift(taker, moved), sign.with_arguments(shift=0 * shift), back]
    return program.with_nodes([taker, sign], made, {sign.x: back.y})


def _drowns(node: Node, shift: np.ndarray) -> bool:
    """Whether a shift is far larger than what a kernel makes of inputs around 1."""
    if node.kind != "kernel":
        return False
    kernel = node["kernel"]
    axes = (0, 1) if _is_depthwise(node) else tuple(range(kernel.ndim - 1))
    sizes = np.sqrt(np.square(kernel).sum(axis=axes)).ravel()
    return bool(np.any(np.abs(shift) > _FAR * (sizes * node["scale"] + 1)))


def _lets_shift_pass(node: Node) -> bool:
    if node.kind == "affine":
        return is_scale(node) and bool(np.all(np.abs(node["k"]) > _LEAST_FACTOR))
    return keeps_channels(node) or node.type in _POOLS


def drop_scale(program: Program, node: Node) -> Program | None:
    """Leaves the scale out of a binary kernel of which only signs are read.

    In steps of the scale, what should be 0 is not, and its sign is noise.
    """
    if node.kind != "kernel" or not node["binary"] or np.any(node["bias"]):
        return None
    scale = node["scale"]
    if np.all(scale == 1) or np.any(scale <= 0) or not _only_signs(program, node.y):
        return None
    return program.with_nodes([node], [node.with_arguments(scale=np.ones_like(scale))])


def _only_signs(program: Program, value: Value) -> bool:
    """Whether plain signs are all that reads a value in the end, times any factor."""
    readers = program.readers(value)
    if program.is_output(value) or not readers:
        return False
    return all(
        not np.any(reader["shift"])
        if reader.kind == "sign"
        else _passes_factor(program, reader) and _only_signs(program, reader.y)
        for reader in readers
    )


def _passes_factor(program: Program, node: Node) -> bool:
    """Whether a factor k > 0 of what a node reads is one of what it makes."""
    if node.kind == "prelu" or node.type in (*_HOMOGENEOUS, *_POOLS):
        return True
    return _hands_on(program, node)


def clear_threshold(program: Program, node: Node) -> Program | None:
    """Moves the threshold of a sign of whole numbers to between two of them.

    LCE divides bias and scale in float32 to find the whole number from which on a bit
    is set, and the given model rounds too: halfway between two sums that is nothing.
    """
    if not _sums_whole_numbers(program, node) or not np.any(node["bias"]):
        return None
    scale, bias, reader = node["scale"], node["bias"], program.reader(node.y)
    negated = np.zeros(scale.shape, bool)
    while reader is not None:
        if is_scale(reader) and reader["k"].shape == scale.shape:
            negated = negated ^ (reader["k"] < 0)
        elif reader.type != "MaxPool" and not is_reshape(reader):
            break
        reader = program.reader(reader.y)
    if reader is None or reader.kind != "sign" or np.any(reader["shift"]):
        return None
    at = _thresholds.threshold_of_affine(scale, bias).value
    clear = _thresholds.between_steps(at, 1.0, negated)
    with np.errstate(invalid="ignore"):  # inf - inf
        moves = np.abs(at - clear) > _HALFWAY
    if not np.any(moves):
        return None
    bias = np.where(moves, -scale * np.where(moves, clear, 0.0), bias)
    return program.with_nodes([node], [node.with_arguments(bias=bias)])
