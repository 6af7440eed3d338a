"""Decides where the maps of an int8 file are rounded, and to which numbers, from data.

There is a range after each input and after each map that another operation reads. A
kernel with the affine operation and the clip that it contains is one operation; nothing
inside it is rounded. The tables of this file list what converters have in int8. The
rest stays float, as do operations computed only for it, and is rounded at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ...graph._kinds import FUSED
from ...layers._fake_quantization import representable_range
from .._errors import ConversionError
from ..trace._names import layer_name
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
_TRANSPOSED = "Conv2DBackpropInput"
# These are int8 whatever they read; their inputs are rounded for them.
_ALWAYS = (Kernel, Sum, PReLU, Clip, Sign, _TRANSPOSED)
# These are int8 if all of their inputs are. They have a range of their own:
_OWN = ("Mean", "Mul", "Sub", "Add", "AddV2", "LeakyRelu")
# TensorFlow Lite gives these the range of their input,
_SHARED = ("AvgPool", "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2")
# and these a fixed one.
_SIGMOID = (0.0, 255 / 256)
_FIXED = {"Tanh": (-1.0, 127 / 128), "Sigmoid": _SIGMOID, "Softmax": _SIGMOID}


def shift_before_sign(program: Program, node: Sign) -> Edit:
    """Writes the shift of a sign as a sum, which has a range of its own."""
    if not np.any(node.shift):
        return "it has no shift"
    value, name = node.x.like(), f"{node.name}_shift"
    shift = Affine(name, node.reads, (value,), 1.0, node.shift)
    sign = Sign(node.name, (value,), node.makes)
    return program.with_nodes([node], [shift, sign])


def with_ranges(
    program: Program, runtime: str, batches: Iterable[Sequence[np.ndarray]]
) -> Program:
    """Returns the program with ranges, found by running it on examples.

    Arguments:
        program: A merged program without ranges.
        runtime: The runtime of the file.
        batches: Batches of examples; the ends of ranges are averaged over them.

    Raises:
        ConversionError: If a map contains numbers that are not finite.
    """
    shared, fixed = _groups(program, runtime)
    values, ends = list(shared), list[list[np.ndarray]]()
    form = form_of(Program(program.inputs, program.nodes, values))
    for batch in batches:
        made = form.outputs_of(batch)
        pairs = zip(values, made, strict=True)
        ends.append([ends_of(x, _clipped(program, value)) for value, x in pairs])
    low, high = np.mean(ends, axis=0).T
    new, moved = list[Node](), dict[Value, Value]()
    for value in values:
        same = [i for i, x in enumerate(values) if shared[x] is shared[value]]
        both = low[same].min(), high[same].max()
        maker = program.maker(value)
        name = "net/input/range" if maker is None else f"{maker.name}_range"
        if not np.isfinite(both).all():
            raise ConversionError(
                "The model computes values that are not finite in layer "
                f"{layer_name(name)!r}. Look for NaN in its weights, or pass other "
                "data."
            )
        # A map of zeros alone gets the range [0, 1].
        both = representable_range(both[0], both[1] if both[0] < both[1] else 1.0)
        moved[value] = value.like()
        new.append(Range(name, (value,), (moved[value],), *map(float, both)))
    for node, (first, last) in fixed.items():
        value, moved[node.y] = node.y, node.y.like()
        new.append(Range(f"{node.name}_range", (value,), (moved[value],), first, last))
    return program.with_nodes((), new, moved)


def ends_of(values: np.ndarray, clipped: float) -> np.ndarray:
    """Returns ends, around 0, with a fraction `clipped` of the values beyond each."""
    if not np.isfinite(values).all():
        return np.full(2, np.nan)
    outside = int(clipped * values.size)
    places = [outside, values.size - 1 - outside]
    low, high = np.partition(values, places, axis=None)[places]
    return np.array([min(low, 0), max(high, 0)])


def _clipped(program: Program, value: Value) -> float:
    """Returns the fraction to cut off: 0 but for feature maps inside the network."""
    whole = program.is_output(value) or value in program.inputs
    return 0.0 if whole or len(value.shape or ()) < 3 else CLIPPED


def _groups(
    program: Program, runtime: str
) -> tuple[dict[Value, Value], dict[Node, tuple[float, float]]]:
    """Returns the values that get a range, and the nodes whose range is fixed.

    Each value maps to the first value with which it shares its range.
    """
    floats, fixed = _in_float(program), dict[Node, tuple[float, float]]()
    starts = [x for x in program.inputs if x.dtype.is_floating and program.readers(x)]
    roots = {value: value for value in starts}
    ranges = dict(roots)  # from a value to the one whose range it has
    for node in program.nodes:
        if not node.y.dtype.is_floating or node.is_a(Sign, Constant):
            continue
        if node.type in _FIXED and node not in floats:
            fixed |= {node: _FIXED[node.type]} if program.readers(node.y) else {}
            continue
        kind = "" if node in floats else _kind(program, node)
        reals = [x for x in node.reads if x.dtype.is_floating]
        given = [x for x in reals if program.constant(x) is None]
        taken = [ranges[x] for x in given if x in ranges]
        # An input without a range, such as a sign, may exceed that of the others.
        if kind == "kept" and taken and len(taken) < len(given):
            kind = "shared"
        together = taken if kind else []
        if kind == "kept" and taken:
            ranges.update(dict.fromkeys(node.makes, taken[0]))
        elif kind != "kept" and _needs_range(program, node, floats, runtime):
            roots[node.y] = ranges[node.y] = node.y
            together = [*together, node.y]
        for value in together[1:]:
            first, other = roots[together[0]], roots[value]
            roots = {x: first if y is other else y for x, y in roots.items()}
    return roots, fixed


def _in_float(program: Program) -> set[Node]:
    """Returns the nodes that stay float: not in int8, or next to such nodes only."""
    floats = set[Node]()
    for node in program.nodes:
        makers = [program.maker(x) for x in node.reads]
        known = node.is_a(Affine, *_OWN, *_SHARED, *_FIXED) or _kind(program, node)
        if node.is_a(*_ALWAYS, Constant):
            continue
        if not known or any(maker in floats for maker in makers):
            floats.add(node)
    for node in reversed(program.nodes):
        readers = program.readers(node.y)
        inner = readers and not any(map(program.is_output, node.makes))
        if not node.is_a(*_ALWAYS) and inner and floats.issuperset(readers):
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
    if node.is_a(Kernel, _TRANSPOSED):
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
