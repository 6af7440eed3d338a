"""Where the maps of an int8 file are rounded, and to which numbers, by examples.

A range stands after each input and after every map that somebody sees: a kernel with
the affine operation and the clip that it contains is one operation, of which nothing
inside is rounded. What converters have in int8 is the table of this file; what they do
not have stays float, with what is only computed for that, and is rounded at its end.
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

# Of a feature map, beyond either end of its range, so that steps are finer. Chosen on
# training images, by results/runtimes/.
CLIPPED = 1e-4
_TRANSPOSED = "Conv2DBackpropInput"
# In int8 whatever they read, which is rounded for them.
_ALWAYS = (Kernel, Sum, PReLU, Clip, Sign, _TRANSPOSED)
# In int8 if all that they read is. A range of their own:
_OWN = ("Mean", "Mul", "Sub", "Add", "AddV2", "LeakyRelu")
# In TensorFlow Lite they have the range of their input.
_SHARED = ("AvgPool", "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2")
# And these one that it fixes.
_SIGMOID = (0.0, 255 / 256)
_FIXED = {"Tanh": (-1.0, 127 / 128), "Sigmoid": _SIGMOID, "Softmax": _SIGMOID}


def shift_before_sign(program: Program, node: Sign) -> Edit:
    """The shift of a sign is a sum, which has a range of its own."""
    if not np.any(node.shift):
        return "it has no shift"
    value, name = node.x.like(), f"{node.name}_shift"
    shift = Affine(name, node.reads, (value,), 1.0, node.shift)
    sign = Sign(node.name, (value,), node.makes)
    return program.with_nodes([node], [shift, sign])


def with_ranges(
    program: Program, runtime: str, batches: Iterable[Sequence[np.ndarray]]
) -> Program:
    """Returns a program with ranges, by what it computes of examples.

    Arguments:
        program: A merged one without any.
        runtime: Of the file.
        batches: Of examples, over which ends are averaged.

    Raises:
        ConversionError: If some map is not finite.
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
        # A map that is all zero on the data has some range all the same.
        both = representable_range(both[0], both[1] if both[0] < both[1] else 1.0)
        moved[value] = value.like()
        new.append(Range(name, (value,), (moved[value],), *map(float, both)))
    for node, (first, last) in fixed.items():
        value, moved[node.y] = node.y, node.y.like()
        new.append(Range(f"{node.name}_range", (value,), (moved[value],), first, last))
    return program.with_nodes((), new, moved)


def ends_of(values: np.ndarray, clipped: float) -> np.ndarray:
    """The range around 0 beyond which this fraction of the values lies on each side."""
    if not np.isfinite(values).all():
        return np.full(2, np.nan)
    outside = int(clipped * values.size)
    places = [outside, values.size - 1 - outside]
    low, high = np.partition(values, places, axis=None)[places]
    return np.array([min(low, 0), max(high, 0)])


def _clipped(program: Program, value: Value) -> float:
    """Which fraction of a value is cut off: of feature maps inside the network."""
    whole = program.is_output(value) or value in program.inputs
    return 0.0 if whole or len(value.shape or ()) < 3 else CLIPPED


def _groups(
    program: Program, runtime: str
) -> tuple[dict[Value, Value], dict[Node, tuple[float, float]]]:
    """Returns the values that get a range, and what makes those whose one is fixed.

    With each of the first, the first of those that it shares its range with.
    """
    floats, fixed = _in_float(program), dict[Node, tuple[float, float]]()
    starts = [x for x in program.inputs if x.dtype.is_floating and program.readers(x)]
    roots = {value: value for value in starts}
    ranges = dict(roots)  # whose range a value has
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
        # What has no range, such as a tanh or a sign, may be beyond that of another.
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
    """What no converter has in int8, and what is only computed of it, or for it."""
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
    """Whether its numbers are among those of its input, or have their range, too."""
    if isinstance(node, Pad):
        signs = sign_before(program, node.x) is not None
        return "kept" if signs or node.value == 0 else "shared"
    if Through.NUMBERS in node.through:
        return "kept"
    # A pool that clips its output does so to numbers of its own range.
    shared = node.type in _SHARED
    if isinstance(node, Clip) and program.maker(node.x, *_SHARED, "MaxPool"):
        shared = node.bounds in FUSED
    return "shared" if shared else ""


def _needs_range(program: Program, node: Node, floats: set[Node], runtime: str) -> bool:
    """Whether somebody sees what a node makes."""
    reader = program.reader(node.y)
    if node in floats:
        readers = program.readers(node.y)
        return program.is_output(node.y) or not floats.issuperset(readers)
    if reader is None or reader in floats:
        return True
    # One operation may compute both, so that nobody sees what is between.
    start = next(_start(program, node), None)
    if isinstance(reader, Affine):
        return start is None
    takes = start is not None or isinstance(node, Sum)
    if runtime == "lce" and isinstance(start, Kernel) and start.binary:
        takes = start.is_plain
    return not (isinstance(reader, Clip) and reader.bounds in FUSED and takes)


def _start(program: Program, node: Node) -> Iterator[Node]:
    """Yields the kernel that makes this, with at most scales and biases after it.

    An affine operation of a map, but for a shift, is one where it follows none; and of
    a binary kernel LCE computes a ReLU inside of it.
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
