"""Proves that a C file computes what its program does, call by call, and as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from .._errors import VerificationError
from ..c._calls import Call, packed, type_of
from ..c._write import CFile, Layout
from ..lite._compiled import compiled, memory, pointer, pointers
from ..lite._converter import in_batches
from ..operations import Stages
from ..operations._emit import form_of
from ..operations._kinds import Sign, Value
from ..operations._moves import sizes_of
from ..trace._names import layer_name
from ..trace._signs import TracedSign
from ._agreement import agreement
from ._file import signs_after, sums_of
from ._lowered import NOTHING_WRITTEN, mismatch
from ._segments import MARGIN, Examples, Recording, compare

# Sums of real numbers in another order, relative to the largest terms.
_ROUNDING = 1e-5
# Examples on which every call is run alone.
_FEW = 4


def verify_c(
    stages: Stages,
    wanted: Sequence[np.ndarray],
    file: CFile,
    examples: Examples,
    tolerance: float,
) -> dict[str, Any]:
    """Compares each call of a file with its operation, and the file with the model."""
    library = compiled("\n".join([file.source, *_alone(file), _whole(file)]))
    _verify_calls(stages, file, library, [x[:_FEW] for x in examples])
    _verify_thresholds(file)
    signs, shown = _file_signs(stages, file, library)
    segments = compare(stages.exact, stages.io, signs, shown, examples, tolerance)
    if segments.finding:
        what = "The C file computes something else"
        raise mismatch(segments, what, tolerance, NOTHING_WRITTEN)
    return agreement(wanted, segments.outputs, tolerance, segments)


def _of(place: str, bits: bool, const: bool = False) -> str:
    kind = "uint32_t" if bits else "float"
    return f"(({'const ' * const}{kind} *){place})"


def _alone(file: CFile) -> list[str]:
    """Functions that make one call each, of maps anywhere."""
    bits, raw = file.calls.packed, {*file.calls.inputs}
    functions = []
    for i, call in enumerate(file.calls.calls):
        reads = [
            f"((const {type_of(x)} *)in[{k}])"
            if x in raw
            else _of(f"in[{k}]", x in bits, const=True)
            for k, x in enumerate(call.reads)
        ]
        y, scratch = _of("out", call.y in bits), _of("memory", call.binary)
        lines = [line.format(*reads, y=y, scratch=scratch) for line in call.lines]
        functions.append(
            f"void call_{i}(const void *const *in, void *out, void *memory) "
            f"{{ {' '.join(lines)} (void)in; (void)memory; }}"
        )
    return functions


def _whole(file: CFile) -> str:
    """A function that makes all calls, and shows what each makes."""
    calls = file.calls
    inputs = [f"((const {type_of(x)} *)in[{i}])" for i, x in enumerate(calls.inputs)]
    outputs = [f"((float *)out[{i}])" for i, _ in enumerate(calls.outputs)]
    layout = Layout(calls, inputs, outputs)
    after = {
        call: f"if (shown[{i}]) memcpy(shown[{i}], {layout.of(call.y)}, "
        f"{4 * calls.words(call.y)});"
        for i, call in enumerate(calls.calls)
    }
    return (
        "void shown(const void *const *in, void *const *out, void *memory, "
        f"void *const *shown) {{\n{chr(10).join(file.body(layout, after))}\n}}\n"
    )


def _verify_calls(stages: Stages, file: CFile, library: Any, few: Examples) -> None:
    """Runs every call alone on what the program gives it to read."""
    calls, size = file.calls, stages.io.batch_size
    each = {x: calls.given.get(x, x) for c in calls.calls for x in (*c.reads, c.y)}
    raw = dict(zip(calls.inputs, calls.program.inputs, strict=True))
    each |= {x: value for x, value in raw.items() if x in each}
    names = [*dict.fromkeys(each.values())]
    form = form_of(calls.program)
    shown = [form.tensor_of(value) for value in names]
    few = [np.resize(x, (-(-len(x) // size) * size, *x.shape[1:])) for x in few]
    for start in range(0, len(few[0]), size):
        part = [x[start : start + size] for x in few]
        made = form.run(dict(zip(form.inputs, part, strict=True)), shown)
        known = dict(zip(names, made, strict=True))
        arrays = {x: known[value] for x, value in each.items()}
        for i, call in enumerate(calls.calls):
            _verify_call(file, i, call, arrays, getattr(library, f"call_{i}"))


def _verify_call(
    file: CFile, place: int, call: Call, arrays: dict[Value, np.ndarray], function: Any
) -> None:
    as_bits = file.calls.packed
    raw = {*file.calls.inputs}
    reads = [
        packed(arrays[x])
        if x in as_bits
        else np.ascontiguousarray(arrays[x], None if x in raw else "f4")
        for x in call.reads
    ]
    wanted, words = arrays[call.y], file.calls.words(call.y)
    bits = call.y in as_bits
    y = np.zeros(words, np.uint32 if bits else np.float32)
    scratch = memory(4 * call.scratch)
    function(pointers(reads), pointer(y), pointer(scratch))
    if bits:
        wrong = int((packed(wanted).ravel() != y).sum())
        said = f"{wrong} of {words} words of signs differ"
    else:
        own = np.ravel(wanted).astype(float)
        sizes = [float(np.abs(x).max(initial=0)) for x in reads if x.dtype == "f4"]
        terms = max(sizes, default=1.0) * call.terms
        finite = np.isfinite(own)
        allowed = _ROUNDING * np.abs(own[finite]).max(initial=0) + 2e-6 * terms
        away = np.abs(own - y)[finite].max(initial=0)
        wrong, said = not away <= allowed, f"it is off by {away:.3g}"
    if wrong:
        raise VerificationError(
            f"The C of layer {layer_name(call.node.name)!r} ({call.function}) computes "
            f"something else than its operation: {said}.{NOTHING_WRITTEN}"
        )


def _verify_thresholds(file: CFile) -> None:
    """Compares whole numbers that signs start at with what makes them of every sum.

    Examples tell nothing of one that none of them comes near.
    """
    program, constants = file.calls.program, file.calls.constants
    for call in file.calls.calls:
        names = re.findall(r"\bleast_\w+", call.lines[0])
        if call.function != "binary_convolution_sign" or not names:
            continue
        sums, least = sums_of(call.node), constants[names[0]][1]
        for _, numbers in signs_after(program, call.node, sums):
            near = np.abs(numbers) <= MARGIN * np.abs(numbers).max(axis=0)
            wrong = ((numbers >= 0) != (sums >= least)) & ~near
            if wrong.any():
                channel = int(np.flatnonzero(wrong.any(axis=0))[0])
                raise VerificationError(
                    f"The C of layer {layer_name(call.node.name)!r} computes something "
                    f"else than its operation: channel {channel} has its sign from "
                    f"{least[channel]} on.{NOTHING_WRITTEN}"
                )


def _file_signs(stages: Stages, file: CFile, library: Any) -> Any:
    """Returns the signs that a file has, and what shows them."""
    calls, io = file.calls, stages.io
    place = {calls.given.get(call.y, call.y): i for i, call in enumerate(calls.calls)}
    found, makers = list[TracedSign](), list[list[Any]]()
    for sign in stages.traced.signs():
        parts = [
            (place[root], node)
            for node in stages.makers(sign.value)
            if (root := calls.root(node.y)) in place
        ]
        counts = (prod(sizes_of(node.y)) for _, node in parts)
        if parts and sum(counts) == prod(sign.value.shape):
            found.append(sign)
            makers.append(parts)
    wanted = [*dict.fromkeys(i for parts in makers for i, _ in parts)]
    room = {i: np.zeros(calls.words(calls.calls[i].y), np.uint32) for i in wanted}
    given = [room.get(i) for i in range(len(calls.calls))]
    targets = pointers(given)
    scratch = memory(file.layout.bytes)

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        inputs = [
            np.ascontiguousarray(x, v.dtype.as_numpy_dtype)
            for x, v in zip(arrays, calls.inputs, strict=True)
        ]
        outputs = [np.zeros(sizes_of(x), np.float32) for x in calls.outputs]
        library.shown(pointers(inputs), pointers(outputs), pointer(scratch), targets)
        values = []
        for sign, parts in zip(found, makers, strict=True):
            arrays = [_signs(calls, i, node, room[i]) for i, node in parts]
            values.append(np.concatenate(arrays, -1).reshape(sign.value.shape))
        return [*outputs, *values]

    def shown(examples: Examples) -> Recording:
        made = in_batches(run, examples, io.batch_size)
        count = len(calls.outputs)
        return Recording(made[:count], made[count:], {})

    return found, shown


def _signs(calls: Any, place: int, node: Any, words: np.ndarray) -> np.ndarray:
    """What a node makes, of the words that a call made."""
    shape, y = sizes_of(node.y), calls.calls[place].y
    if y not in calls.packed:
        values = words.view(np.float32).reshape(shape).copy()
    else:
        data = words.reshape(*shape[:-1], -1).view(np.uint8)
        ones = np.unpackbits(data, axis=-1, count=shape[-1], bitorder="little")
        values = np.where(ones, 1.0, -1.0).astype(np.float32)
    opposite = node.opposite if isinstance(node, Sign) else False
    return np.where(opposite, -values, values)
