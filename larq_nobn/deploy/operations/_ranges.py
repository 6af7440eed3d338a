"""Decides where the maps of an int8 file are rounded, and to which numbers, from data.

`convert` puts the ranges into the program that it writes, and `fake_quantize` into a
Keras model for training, after the layers that make the same maps.

There is a range after each input and after each map that another operation reads. A
kernel with the affine operation and the clip that it contains is one operation; nothing
inside it is rounded. The tables of this file list what converters have in int8. The
rest stays float, as do operations computed only for it, and is rounded at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...graph._traits import FUSED
from ...layers._fake_quantization import representable_range
from .._errors import ConversionError
from ..trace._operation_names import layer_name
from ._binary import sign_before
from ._emit import form_of
from ._kinds import (
    Affine,
    Clip,
    Constant,
    Kernel,
    Node,
    Pad,
    PReLU,
    Range,
    Sign,
    Sum,
    Through,
    Value,
)
from ._program import Edit, Program

# The fraction of a feature map beyond either end of its range, so that steps are finer.
# Chosen on training images, by results/runtimes/.
CLIPPED = 1e-4
# No kind of node has its kernel of (height, width, output channels, input channels).
TRANSPOSED = "Conv2DBackpropInput"
# These are int8 whatever they read; their inputs are rounded for them.
_ALWAYS = (Kernel, Sum, PReLU, Clip, Sign, TRANSPOSED)
# These are int8 if all of their inputs are. They have a range of their own:
_OWN = ("Mean", "Mul", "Sub", "Add", "AddV2", "LeakyRelu")
# TensorFlow Lite gives these the range of their input,
_SHARED = (
    *("AvgPool", "MirrorPad", "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2"),
)
# and these a fixed one.
FIXED = {
    **dict.fromkeys(("Softmax", "Sigmoid"), (0.0, 255 / 256)),
    "Tanh": (-1.0, 127 / 128),
    "LogSoftmax": (-255 / 16, 0.0),
}


def shift_before_sign(program: Program, node: Sign) -> Edit:
    """Writes the shift of a sign as a sum, which has a range of its own."""
    if not np.any(node.shift):
        return "it has no shift"
    value, name = node.x.like(), f"{node.name}_shift"
    shift = Affine(name, node.reads, (value,), 1.0, node.shift)
    sign = Sign(node.name, (value,), node.makes)
    return program.with_nodes([node], [shift, sign])


class Places(NamedTuple):
    """Where ranges stand in a program.

    Attributes:
        roots: The values that get a range from data, each with the first of those that
            share it.
        owners: The values in such a range, each with the one that gets it.
        fixed: The values whose range TensorFlow Lite fixes, with its ends.
    """

    roots: dict[Value, Value]
    owners: dict[Value, Value]
    fixed: dict[Value, tuple[float, float]]


def with_ranges(
    program: Program, runtime: str, batches: Iterable[Sequence[np.ndarray]]
) -> Program:
    """Returns a merged program with ranges, found as in `ranges_of`."""
    places = places_in(program, runtime)
    ranges = ranges_of(program, places.roots, batches)
    new, moved = list[Node](), dict[Value, Value]()
    for value, ends in {**ranges, **places.fixed}.items():
        moved[value] = value.like()
        low, high = map(float, representable_range(*ends))
        name = _range_name(program, value)
        new.append(Range(name, (value,), (moved[value],), low, high))
    return program.with_nodes((), new, moved)


def ranges_of(
    program: Program,
    roots: Mapping[Value, Value],
    batches: Iterable[Sequence[np.ndarray]],
) -> dict[Value, tuple[float, float]]:
    """Returns the ends of ranges, found by running a program on examples.

    Arguments:
        program: A program without ranges.
        roots: The values that get a range. Those of one root share it.
        batches: Batches of examples; the ends of ranges are averaged over them.

    Raises:
        ConversionError: If no value gets a range, or if one contains numbers that are
            not finite.
    """
    if not roots:
        raise ConversionError(
            "The model computes no real numbers from its inputs, so int8 would round "
            "nothing. Convert it without int8."
        )
    form, ends = form_of(Program(program.inputs, program.nodes, [*roots])), []
    # Only feature maps inside the network are cut off.
    whole = {*program.inputs, *program.outputs}
    inside = [x not in whole and len(x.shape or ()) >= 3 for x in roots]
    for batch in batches:
        pairs = zip(inside, form.outputs_of(batch), strict=True)
        ends.append([ends_of(x, CLIPPED * is_inside) for is_inside, x in pairs])
    ranges = dict[Value, tuple[float, float]]()
    for value, (low, high) in zip(roots, np.mean(ends, axis=0), strict=True):
        if not np.isfinite(low + high):
            raise ConversionError(
                "The model computes values that are not finite in layer "
                f"{layer_name(_range_name(program, value))!r}. Look for NaN in its "
                "weights, or pass other data."
            )
        least, most = ranges.get(roots[value], (0.0, 0.0))
        ranges[roots[value]] = min(least, low), max(most, high)
    # A map of zeros alone gets the range [0, 1].
    found = {x: (low, high if low < high else 1.0) for x, (low, high) in ranges.items()}
    return {value: found[root] for value, root in roots.items()}


def _range_name(program: Program, value: Value) -> str:
    maker = program.maker(value)
    return "net/input/range" if maker is None else f"{maker.name}_range"


def ends_of(values: np.ndarray, clipped: float) -> np.ndarray:
    """Returns ends, around 0, with a fraction `clipped` of the values beyond each."""
    if not np.isfinite(values).all():
        return np.full(2, np.nan)
    outside = int(clipped * values.size)
    places = [outside, values.size - 1 - outside]
    low, high = np.partition(values, places, axis=None)[places]
    return np.array([min(low, 0), max(high, 0)])


def places_in(program: Program, runtime: str) -> Places:
    """Returns where ranges stand in a program without ranges."""
    floats, fixed = _in_float(program), dict[Value, tuple[float, float]]()
    starts = [x for x in program.inputs if x.dtype.is_floating and program.readers(x)]
    roots = {value: value for value in starts}
    owners = dict(roots)
    for node in program.nodes:
        if not node.y.dtype.is_floating or node.is_a(Sign, Constant):
            continue
        if node.type in FIXED and node not in floats:
            if program.readers(node.y):
                fixed[node.y] = FIXED[node.type]
            continue
        kind = "" if node in floats else _kind(program, node)
        reals = [x for x in node.reads if x.dtype.is_floating]
        taken = [owners[x] for x in reals if x in owners]
        # An input without a range, such as a constant, may exceed that of the others.
        if kind == "kept" and taken and len(taken) < len(reals):
            kind = "shared"
        together = taken if kind else []
        if kind == "kept" and taken:
            owners.update(dict.fromkeys(node.makes, taken[0]))
        elif kind != "kept" and _needs_range(program, node, floats, runtime):
            roots[node.y] = owners[node.y] = node.y
            together = [*together, node.y]
        for value in together[1:]:
            first, other = roots[together[0]], roots[value]
            roots = {x: first if y is other else y for x, y in roots.items()}
    return Places(roots, owners, fixed)


def _in_float(program: Program) -> set[Node]:
    """Returns the nodes that stay float: not in int8, or next to such nodes only.

    What moves or averages numbers is float between such nodes alone, since converters
    make it int8 if its input or output is.
    """
    floats = set[Node]()
    for node in program.nodes:
        makers = [program.maker(x) for x in node.reads]
        known = node.is_a(Affine, *_OWN, *_SHARED, *FIXED) or _kind(program, node)
        if node.is_a(*_ALWAYS, Constant):
            continue
        if not known or any(maker in floats for maker in makers):
            floats.add(node)
    for node in reversed(program.nodes):
        readers = program.readers(node.y)
        inner = readers and not any(map(program.is_output, node.makes))
        only, moves = inner and floats.issuperset(readers), _kind(program, node)
        if moves and not only:
            floats.discard(node)
        elif only and not moves and not node.is_a(*_ALWAYS):
            floats.add(node)
    return floats


def _kind(program: Program, node: Node) -> str:
    """Returns 'kept' if a node moves input numbers, 'shared' if it has their range."""
    if isinstance(node, Pad):
        signs = sign_before(program, node.x) is not None
        return "kept" if signs or node.value == 0 else "shared"
    if Through.NUMBERS in node.through:
        return "kept"
    # The clip of a pool's output has the range of the pool.
    shared = node.type in _SHARED
    if isinstance(node, Clip) and program.maker(node.x, *_SHARED, "MaxPool"):
        shared = node.bounds in FUSED
    return "shared" if shared else ""


def _needs_range(program: Program, node: Node, floats: set[Node], runtime: str) -> bool:
    """Whether a node's output is rounded, instead of being part of one operation."""
    reader = program.reader(node.y)
    if node in floats:
        readers = program.readers(node.y)
        return program.is_output(node.y) or not floats.issuperset(readers)
    if reader is None or reader in floats:
        return True
    # One operation may compute both, and nothing is rounded between.
    start = next(_start(program, node), None)
    if isinstance(reader, Affine):
        return start is None
    takes = start is not None or isinstance(node, Sum)
    if runtime == "lce" and isinstance(start, Kernel) and start.binary:
        takes = start.is_plain
    return not (isinstance(reader, Clip) and reader.bounds in FUSED and takes)


def _start(program: Program, node: Node) -> Iterator[Node]:
    """Yields the kernel of which a node is part, after at most scales and biases.

    An affine operation of a map that is more than a shift counts as a kernel itself.
    Inside a plain binary kernel, LCE also computes a ReLU.
    """
    if node.is_a(Kernel, TRANSPOSED):
        yield node
    elif isinstance(node, Clip):
        kernel = program.sole_maker(node.x, Kernel)
        if kernel is not None and kernel.binary and kernel.is_plain:
            yield kernel
    elif isinstance(node, Affine):
        before = program.sole_maker(node.x)
        if before is not None:
            yield from _start(program, before)
        if node.x.is_map and not node.is_shift:
            yield node
