"""Proves that a C file computes what its program does, call by call and as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._errors import VerificationError
from ..c._calls import Call, packed, type_of
from ..c._write import CFile
from ..lite._compiled import compiled, memory, pointer, pointers, runs
from ..lite._converter import in_batches
from ..operations import Stages
from ..operations._emit import form_of
from ..operations._kinds import Value
from ..operations._moves import sizes_of
from ..trace._operation_names import layer_name
from ._file_values import signs_after, sums_of
from ._lowered import NOTHING_WRITTEN, check
from ._segments import MARGIN, Examples, Recording, agreement, compare

# Rounding of sums in another order, relative to their largest terms.
_ROUNDING = 1e-5
# The number of examples on which every call is run alone.
_FEW = 4


def verify_c(
    stages: Stages,
    wanted: Sequence[np.ndarray],
    file: CFile,
    examples: Examples,
    tolerance: float,
) -> dict[str, Any]:
    """Compares each call of a file with its operation, then the file with the model."""
    library = compiled(file.source + _one_call(file))
    _verify_calls(stages, file, library, [x[:_FEW] for x in examples])
    _verify_thresholds(file)
    signs, shown = _file_signs(stages, file, library)
    segments = compare(stages.exact, stages.io, signs, shown, examples, tolerance)
    check(segments, "The C file computes something else", tolerance)
    return agreement(wanted, segments.outputs, tolerance, segments)


def _one_call(file: CFile) -> str:
    """Returns a C function that makes call number i, on maps at any address."""
    calls, cases = file.calls, ""
    types = {x: type_of(x) for x in calls.inputs}
    types |= dict.fromkeys(calls.packed, "uint32_t")
    for i, call in enumerate(calls.calls):
        reads = [
            f"((const {types.get(x, 'float')} *)in[{k}])"
            for k, x in enumerate(call.reads)
        ]
        y = f"(({types.get(call.y, 'float')} *)out)"
        scratch = f"(({'uint32_t' if call.binary else 'float'} *)memory)"
        lines = (x.format(*reads, y=y, scratch=scratch) for x in call.lines)
        cases += f"case {i}: {' '.join(lines)} break;\n"
    return (
        "void one_call(int i, const void *const *in, void *out, void *memory) "
        f"{{ switch (i) {{\n{cases}}} }}\n"
    )


def _verify_calls(stages: Stages, file: CFile, library: Any, few: Examples) -> None:
    """Runs every call alone, on the inputs that the program computes for it."""
    calls, size = file.calls, stages.io.batch_size
    each = {x: calls.same_as.get(x, x) for c in calls.calls for x in (*c.reads, c.y)}
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
            _verify_call(file, i, call, arrays, library.one_call)


def _verify_call(
    file: CFile, place: int, call: Call, arrays: dict[Value, np.ndarray], function: Any
) -> None:
    as_bits, raw = file.calls.packed, {*file.calls.inputs}
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
    function(place, pointers(reads), pointer(y), pointer(scratch))
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
    """Compares the least sum that gives +1 with the program, for every possible sum.

    Examples do not test a threshold that none of them comes near.
    """
    program, constants = file.calls.program, file.calls.constants
    for call in file.calls.calls:
        for name in re.findall(r"\bleast_\w+", call.lines[0]):
            sums, least = sums_of(call.node), constants[name][1]
            for _, numbers in signs_after(program, call.node, sums):
                near = np.abs(numbers) <= MARGIN * np.abs(numbers).max(axis=0)
                wrong = ((numbers >= 0) != (sums >= least)) & ~near
                if wrong.any():
                    channel = int(np.flatnonzero(wrong.any(axis=0))[0])
                    raise VerificationError(
                        f"The C of layer {layer_name(call.node.name)!r} computes "
                        f"something else than its operation: channel {channel} has its "
                        f"sign from {least[channel]} on.{NOTHING_WRITTEN}"
                    )


def _file_signs(stages: Stages, file: CFile, library: Any) -> Any:
    """Returns the signs that a file computes, and a function that records them.

    It makes all calls one after the other in the memory of the file, as the file does.
    """
    calls, io, room = file.calls, stages.io, memory(file.info["memory_bytes"])
    place = {calls.same_as.get(call.y, call.y): i for i, call in enumerate(calls.calls)}
    program = stages.spelled
    found = [
        (sign, value)
        for sign, value in stages.signs_in(program, stages.traced.signs())
        if all(calls.root(x) in place for x in program.sources(value))
    ]
    sources = {
        x: place[calls.root(x)] for _, value in found for x in program.sources(value)
    }
    shown = {*sources.values()}
    outputs = [np.zeros(sizes_of(x), np.float32) for x in calls.outputs]
    at = {x: room[4 * start :] for x, start in file.places.items()}
    at |= dict(zip(calls.outputs, outputs, strict=True))
    whole = runs(library, file.info)

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        own = [np.ascontiguousarray(x) for x in arrays]
        maps, words = at | dict(zip(calls.inputs, own, strict=True)), {}
        for i, call in enumerate(calls.calls):
            reads, y = pointers([maps.get(x) for x in call.reads]), maps[call.y]
            library.one_call(i, reads, pointer(y), pointer(maps.get(call, room)))
            if i in shown:
                words[i] = y.view(np.uint8).ravel()[: 4 * calls.words(call.y)].copy()
        made = {x: _signs(calls, i, x, words[i]) for x, i in sources.items()}
        values = [program.decoded(value, made) for _, value in found]
        return [*whole(arrays), *values]

    def recording(examples: Examples) -> Recording:
        made = in_batches(run, examples, io.batch_size)
        count = len(calls.outputs)
        return Recording(made[:count], made[count:], {})

    return [sign for sign, _ in found], recording


def _signs(calls: Any, place: int, value: Value, words: np.ndarray) -> np.ndarray:
    """Returns the numbers of a value from the words that a call has made."""
    shape = sizes_of(value)
    if calls.calls[place].y not in calls.packed:
        return words.view(np.float32).reshape(shape)
    data = words.reshape(*shape[:-1], -1)
    ones = np.unpackbits(data, axis=-1, count=shape[-1], bitorder="little")
    return np.where(ones, 1.0, -1.0).astype(np.float32)
