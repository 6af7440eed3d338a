r"""Local rules: each rewrites a few operations into fewer that compute the same.

With numbers per channel k and b, an affine operation is y = k x + b. For a kernel W
that is linear, and f that is positively homogeneous (a ReLU, a PReLU):

\[ k (W x) + b = (k W) x + b, \quad W (x + b) = W x + W b, \quad
   f(k x) = k f(x), \quad
   \operatorname{sign}(k x + b) = \operatorname{sign}(x + b / k) \]

for k > 0 in the last two. Maximum and average pools let k > 0 and b pass. A binary
kernel is ±1 with a scale after it, which LCE makes part of the convolution, as it does
a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...graph import _steps, _thresholds
from ._program import Node, Program, Rule, Value, everywhere

# Their outputs are positively homogeneous in their inputs.
_HOMOGENEOUS = ("Relu", "LeakyRelu")
_POOLS = ("MaxPool", "AvgPool")
# Whole numbers that float32 tells half a one apart.
_LARGEST_SUM = 2.0**20


def optimized(program: Program) -> Program:
    """Returns a program of the same function, of the operations that files have."""
    program = everywhere(program, (spell_prelu,))
    program = everywhere(program, RULES)
    program = _pulled(program)
    return everywhere(program, (clear_threshold,))


def spell_prelu(program: Program, node: Node) -> Program | None:
    """Writes max(x, 0) - a max(-x, 0) as one operation."""
    if node.kind != "sum":
        return None
    for positive, rest in (node.reads, node.reads[::-1]):
        first, scaled = program.maker(positive), program.maker(rest)
        slope = 1.0
        if scaled is not None and _is_scale(scaled):
            slope, scaled = scaled["k"], program.maker(scaled.x)
        if first is None or scaled is None or {first.type, scaled.type} != {"Relu"}:
            continue
        turned = program.maker(scaled.x)
        if turned is None or turned.kind != "affine" or turned.x is not first.x:
            continue
        if np.all(turned["k"] == -1) and not np.any(turned["b"]):
            arguments = {"slope": np.broadcast_to(-slope, turned["k"].shape)}
            spelled = Node(node.name, "prelu", (first.x,), node.makes, arguments)
            return program.with_nodes([node], [spelled])
    return None


def _is_scale(node: Node) -> bool:
    return node.kind == "affine" and not np.any(node["b"])


def _is_shift(node: Node) -> bool:
    return node.kind == "affine" and bool(np.all(node["k"] == 1))


def identity_goes(program: Program, node: Node) -> Program | None:
    if not (_is_shift(node) and _is_scale(node)):
        return None
    return program.with_nodes([node], [], [(node.y, node.x)])


def merge(program: Program, node: Node) -> Program | None:
    """Two affine operations in a row are one."""
    if node.kind != "affine":
        return None
    before = program.maker(node.x)
    if before is None or before.kind != "affine":
        return None
    if program.reader(before.y) is None:
        return None
    k, b = node["k"] * before["k"], node["k"] * before["b"] + node["b"]
    merged = node.reading(node.x, before.x).with_arguments(k=k, b=b)
    return program.with_nodes([before, node], [merged])


def into_kernel(program: Program, node: Node) -> Program | None:
    """An affine operation becomes part of the kernel before it.

    Of a binary one, of its scale and bias; where k < 0, its signs are the opposite.
    """
    if node.kind != "affine":
        return None
    kernel = program.maker(node.x)
    if kernel is None or kernel.kind != "kernel":
        return None
    if program.reader(kernel.y) is None:
        return None
    k, bias = node["k"], node["k"] * kernel["bias"] + node["b"]
    if kernel["binary"]:
        signs = kernel["kernel"] * np.where(k < 0, -1.0, 1.0)
        scale = kernel["scale"] * np.abs(k)
        made = kernel.with_arguments(kernel=signs, scale=scale, bias=bias)
    else:
        weights = kernel["kernel"]
        by_channel = k.reshape(weights.shape[-2:]) if _is_depthwise(kernel) else k
        made = kernel.with_arguments(kernel=weights * by_channel, bias=bias)
    return program.with_nodes([kernel, node], [made.making(node.y)])


def _is_depthwise(kernel: Node) -> bool:
    return bool(kernel["of"] == "DepthwiseConv2dNative")


def into_sign(program: Program, node: Node) -> Program | None:
    """An affine operation with k > 0 before a sign is its shift."""
    if node.kind != "sign":
        return None
    affine = program.maker(node.x)
    if affine is None or affine.kind != "affine" or np.any(affine["k"] <= 0):
        return None
    shift = _thresholds.threshold_of_affine(
        affine["k"], affine["b"] + node["shift"]
    ).shift()
    if np.any(shift) and program.reader(affine.y) is None:
        return None  # the affine operation would stay, beside a shift
    made = node.reading(node.x, affine.x).with_arguments(shift=np.float64(shift))
    return program.with_nodes([node], [made])


def scale_after_relu(program: Program, node: Node) -> Program | None:
    """LCE makes a ReLU part of a binary convolution before its scale, not after."""
    if node.kind != "kernel" or not node["binary"] or np.any(node["bias"]):
        return None
    relu = program.reader(node.y)
    if relu is None or relu.type != "Relu" or np.all(node["scale"] == 1):
        return None
    value = relu.y.like()
    scale = _affine(f"{node.name}_scale", value, node["scale"], relu.y)
    whole = node.with_arguments(scale=np.ones_like(node["scale"]))
    return program.with_nodes([node, relu], [whole, relu.making(value), scale])


def _affine(name: str, x: Value, k: np.ndarray, y: Value, b: Any = 0.0) -> Node:
    arguments = {"k": np.float64(k), "b": np.broadcast_to(np.float64(b), np.shape(k))}
    return Node(name, "affine", (x,), (y,), arguments)


def scale_through_homogeneous(program: Program, node: Node) -> Program | None:
    """A scale k > 0 follows the ReLU or PReLU that alone reads it."""
    if not _is_scale(node) or np.any(node["k"] <= 0):
        return None
    reader = program.reader(node.y)
    if reader is None or not (reader.type in _HOMOGENEOUS or reader.kind == "prelu"):
        return None
    value = reader.y.like()
    before = reader.reading(node.y, node.x).making(value)
    after = _affine(node.name, value, node["k"], reader.y)
    return program.with_nodes([node, reader], [before, after])


def scale_into_kernels_after(program: Program, node: Node) -> Program | None:
    """A scale becomes part of the kernels that are all that reads it."""
    if not _is_scale(node) or program.is_output(node.y):
        return None
    readers = program.readers(node.y)
    if not all(reader.kind == "kernel" and not reader["binary"] for reader in readers):
        return None
    made = [
        reader.reading(node.y, node.x).with_arguments(
            kernel=reader["kernel"] * node["k"][:, None]  # (..., input channels, C)
        )
        for reader in readers
    ]
    return program.with_nodes([node, *readers], made)


def shift_into_sum(program: Program, node: Node) -> Program | None:
    """A shift of a sum becomes the bias of a kernel that makes a part of it."""
    if not _is_shift(node):
        return None
    added = program.maker(node.x)
    if added is None or added.kind != "sum":
        return None
    if program.reader(added.y) is None:
        return None
    for value in added.reads:
        maker = program.maker(value)
        if (
            maker is not None
            and program.reader(value)
            and _adds_for_free(program, maker)
        ):
            made, whole = _with_shift(maker, node["b"]), added.making(node.y)
            return program.with_nodes([maker, added, node], [made, whole])
    return None


def _adds_for_free(program: Program, node: Node) -> bool:
    """Whether a shift of what a node makes costs nothing.

    Of a kernel it is the bias. LCE makes it part of a binary convolution, too, whose
    ReLU is before the scale.
    """
    return node.kind == "kernel" or _is_after_relu(program, node)


def _is_after_relu(program: Program, node: Node) -> bool:
    if node.kind != "affine":
        return False
    relu = program.maker(node.x)
    if relu is None or relu.type != "Relu" or program.reader(relu.y) is None:
        return False
    kernel = program.maker(relu.x)
    if kernel is None or kernel.kind != "kernel" or program.reader(kernel.y) is None:
        return False
    plain = not np.any(kernel["bias"]) and bool(np.all(kernel["scale"] == 1))
    return kernel["binary"] and plain


def _with_shift(node: Node, b: np.ndarray) -> Node:
    name = "bias" if node.kind == "kernel" else "b"
    return node.with_arguments(**{name: node[name] + b})


def before_pool(program: Program, node: Node) -> Program | None:
    """An affine operation after a pool goes before it, into the kernel there."""
    if node.kind != "affine":
        return None
    pool = program.maker(node.x)
    if pool is None or pool.type not in _POOLS or program.reader(pool.y) is None:
        return None
    if pool.type == "MaxPool" and np.any(node["k"] < 0):
        return None
    kernel = program.maker(pool.x)
    if kernel is None or kernel.kind != "kernel" or program.reader(pool.x) is None:
        return None
    value = pool.x.like()
    moved = node.reading(node.x, pool.x).making(value)
    after = pool.reading(pool.x, value).making(node.y)
    return program.with_nodes([pool, node], [moved, after])


def shift_into_readers(program: Program, node: Node) -> Program | None:
    """A shift goes into all that reads it, if all of them can take it.

    Signs, kernels that meet all of their input everywhere, affine operations, and sums
    and averages, which hand it on.
    """
    if not _is_shift(node) or program.is_output(node.y):
        return None
    readers = program.readers(node.y)
    if not readers or not all(_takes(program, node, reader) for reader in readers):
        return None
    made = [part for reader in readers for part in _shifted(node, reader)]
    return program.with_nodes([node, *readers], made)


def _takes(program: Program, shift: Node, reader: Node) -> bool:
    if sum(value is shift.y for value in reader.reads) != 1:
        return False
    if reader.kind == "kernel":
        kernel = reader["kernel"]
        valid = reader["of"] == "MatMul" or reader["padding"] == "VALID"
        single = kernel.shape[:2] == (1, 1) and not _is_depthwise(reader)
        return not reader["binary"] and (valid or single)
    if reader.type == "AvgPool":
        return True
    if reader.type == "Mean":
        axes = program.maker(reader.reads[1])
        if axes is None or axes.kind != "constant" or not reader.x.shape:
            return False
        rank = len(reader.x.shape)
        return rank - 1 not in np.ravel(axes["value"] % rank)
    return reader.kind in ("sign", "affine", "sum")


def _shifted(shift: Node, reader: Node) -> Iterator[Node]:
    """What computes the same without the shift before it."""
    b, new = shift["b"], reader.reading(shift.y, shift.x)
    if reader.kind == "sign":
        total = _thresholds.threshold_of_affine(
            np.ones_like(b), b + reader["shift"]
        ).shift()
        yield new.with_arguments(shift=np.float64(total))
    elif reader.kind == "affine":
        yield new.with_arguments(b=reader["b"] + reader["k"] * b)
    elif reader.kind == "kernel":
        yield new.with_arguments(bias=reader["bias"] + _response(reader, b))
    else:
        value = reader.y.like()
        yield new.making(value)
        yield _affine(shift.name, value, np.ones_like(b), reader.y, b)


def _response(kernel: Node, b: np.ndarray) -> np.ndarray:
    """What a kernel makes of a constant per channel, where it meets nothing else."""
    weights = kernel["kernel"]
    if kernel["of"] == "MatMul":
        return b @ weights
    if _is_depthwise(kernel):
        return np.ravel(weights.sum((0, 1)) * b[:, None])
    return b @ weights.sum((0, 1))


RULES: tuple[Rule, ...] = (
    identity_goes,
    merge,
    into_kernel,
    into_sign,
    scale_after_relu,
    shift_into_sum,
    before_pool,
    scale_through_homogeneous,
    scale_into_kernels_after,
    shift_into_readers,
)


def cost(program: Program) -> int:
    """How many operations add or multiply by numbers per channel on their own."""
    affines = (node for node in program.nodes if node.kind == "affine")
    signs = (node for node in program.nodes if node.kind == "sign")
    return sum(not _is_after_relu(program, node) for node in affines) + sum(
        bool(np.any(node["shift"])) for node in signs
    )


def _pulled(program: Program) -> Program:
    """Moves shifts of signs into kernels before them, where that saves an operation."""
    tried = set[str]()
    while True:
        waiting = (n for n in program.nodes if n.kind == "sign" and n.name not in tried)
        sign = next((node for node in waiting if np.any(node["shift"])), None)
        if sign is None:
            return program
        tried.add(sign.name)
        moved = _with_shift_before(program, sign)
        if moved is not None:
            moved = everywhere(moved, RULES)
            if cost(moved) < cost(program):
                program = moved


def _with_shift_before(program: Program, sign: Node) -> Program | None:
    """The kernel that makes what a sign reads has its shift; others read it without."""
    maker, shift = program.maker(sign.x), sign["shift"]
    if maker is None:
        return None
    parts = [maker]
    if maker.kind == "sum":
        alone = [value for value in maker.reads if program.reader(value)]
        parts = [part for x in alone if (part := program.maker(x)) is not None]
    taker = next((part for part in parts if _adds_for_free(program, part)), None)
    if taker is None:
        return None
    # What else reads the map has the shift taken out again.
    ones, name = np.ones_like(shift), f"{sign.name}_back"
    back = _affine(name, sign.x, ones, sign.x.like(), -shift)
    others = [node for node in program.readers(sign.x) if node is not sign]
    made = [_with_shift(taker, shift), sign.with_arguments(shift=0 * shift), back]
    made += [node.reading(sign.x, back.y) for node in others]
    edited = program.with_nodes([taker, sign, *others], made)
    outputs = [back.y if end is sign.x else end for end in program.outputs]
    return Program(edited.inputs, [*edited.nodes, back], outputs)


def clear_threshold(program: Program, node: Node) -> Program | None:
    """Moves the threshold of a sign of whole numbers to between two of them.

    LCE divides bias and scale in float32 to find the whole number from which on a bit
    is set, and the given model rounds too: halfway between two sums that is nothing.
    """
    if node.kind != "kernel" or not node["binary"] or not np.any(node["bias"]):
        return None
    readers, seen = program.readers(node.y), [node.y]
    while readers:
        reader = readers[0]
        if program.is_output(seen[-1]) or len(readers) > 1:
            return None
        if reader.kind == "sign" and not np.any(reader["shift"]):
            break
        if reader.type != "MaxPool":
            return None
        seen.append(reader.y)
        readers = program.readers(reader.y)
    else:
        return None
    scale, bias = node["scale"], node["bias"]
    whole = _steps.Steps(np.ones_like(scale), _LARGEST_SUM)
    at, clear = (
        _thresholds.threshold_of_affine(scale, bias, x).value for x in (None, whole)
    )
    moves = np.isfinite(at) & (at != clear)
    if not np.any(moves):
        return None
    bias = np.where(moves, -scale * np.where(moves, clear, 0.0), bias)
    return program.with_nodes([node], [node.with_arguments(bias=bias)])
