"""Compares a model that was not prepared with its trace, and that with its file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._progress import step
from ...graph import _cuts, _graph, _segments
from .._errors import ConversionError
from ..lite import _converter
from ..lite._trace import Trace, TracedSign, layer_of
from ..operations import LoweredTrace
from . import _verify
from ._agreement import agreement
from ._file import LOOK, check_same

# A trace computes constants once that the model computes in every call.
_EQUAL = 1e-5
_GROUP = 16

Examples = Sequence[np.ndarray]


def verify_trace(
    model: keras.Model, trace: Trace, spec: _converter.IoSpec, examples: Examples
) -> dict[str, Any]:
    """Compares the given model with its trace, both in TensorFlow.

    The signs of a model that cannot be read are known from the trace alone. So the
    operations of the trace are run one by one, as those of the model are: then both
    round alike, a sum that is 0 but for rounding included, and no sign excuses
    anything.

    Raises:
        ConversionError: If the given model cannot be compared with anything.
        VerificationError: If the trace computes something else.
    """
    size, count = spec.batch_size, len(examples[0])
    given = _verify.checked_outputs(
        model, _converter.in_batches(_converter.called(model), examples, size), count
    )
    traced = _converter.in_batches(partial(_eagerly, trace, spec), examples, size)
    groups = list(_segments.grouped(examples, count))
    segments = _ends(given, traced, spec, groups)
    if segments.finding:
        # The trace tells how much rounds.
        forms = [partial(_eagerly, trace.with_noise(x), spec) for x in _segments.NOISES]
        noisy = [_converter.in_batches(form, examples, size) for form in forms]
        segments = _ends(traced, given, spec, groups, noisy)
        segments.outputs = traced
    if segments.finding:
        _verify.raise_mismatch(
            segments, "Tracing the model changed what it computes", _EQUAL
        )
    return {**agreement(given, traced, _EQUAL, segments), "reference": _verify.GIVEN}


def _ends(
    mine: list[np.ndarray],
    theirs: list[np.ndarray],
    spec: _converter.IoSpec,
    groups: Sequence[list[int]],
    noisy: Sequence[list[np.ndarray]] = (),
) -> _segments.Segments:
    """Compares outputs, of each group of examples for itself."""
    segments = _segments.Segments(len(mine[0]), theirs)
    for (i, name), rows in product(enumerate(spec.outputs), groups):
        result = segments.result("output", name)
        noise = [numbers[i][rows] for numbers in noisy]
        what, pair = f"output {name!r} differs", (mine[i][rows], theirs[i][rows])
        _segments.compare_values(*pair, _EQUAL, what, rows, result, noise)
    return segments


def verify_traced_file(
    lowered: LoweredTrace,
    runner: _converter.Runner,
    examples: Examples,
    tolerance: float,
) -> dict[str, Any]:
    """Compares the trace of a model with the file in its interpreter, by segments.

    Arguments:
        lowered: The trace, and what the file was written from.
        runner: Runs the file.
        examples, tolerance: As in `convert`.

    Raises:
        VerificationError: If some difference is no matter of rounding.
    """
    trace, spec = lowered.trace, lowered.io
    signs = [sign for sign in trace.signs() if _can_be_given(sign, spec)]
    read = _probe(lowered, signs, runner)
    count = len(examples[0])
    segments, parts = _segments.Segments(count), []
    for rows in _segments.grouped(examples, _GROUP):
        step("Comparing examples", rows[0], count)
        taken = [array[rows] for array in examples]
        outputs, made = read(taken)
        parts.append(outputs)
        theirs = (taken, outputs, made)
        for noisy in segments.attempts(rows):
            forms = [trace, *(trace.with_noise(x) for x in _segments.NOISES if noisy)]
            _compare(forms, signs, spec, theirs, rows, tolerance, segments)
    segments.outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    if segments.finding:
        what = "The converted file computes something else"
        _verify.raise_mismatch(segments, what, tolerance)
    wanted = _outputs(trace, spec, examples)
    return agreement(wanted, segments.outputs, tolerance, segments)


def _compare(
    forms: Sequence[Trace],
    signs: Sequence[TracedSign],
    spec: _converter.IoSpec,
    theirs: tuple[Examples, list[np.ndarray], list[np.ndarray]],
    rows: list[int],
    tolerance: float,
    segments: _segments.Segments,
) -> None:
    """Computes the trace from the signs that the file has, and compares.

    More of `forms`, with noise, tell how much rounds.
    """
    examples, outputs, shown = theirs
    fed = [_fed(sign, made) for sign, made in zip(signs, shown, strict=True)]
    tensors = [tensor for sign in signs for tensor in sign.of]
    values = [sign.value for sign in signs]
    inputs = [*examples, *fed]
    computed = [_outputs(form, spec, inputs, tensors, values) for form in forms]
    rests = [iter(numbers[len(spec.outputs) :]) for numbers in computed]
    before = "the input"
    for number, (sign, made) in enumerate(zip(signs, shown, strict=True), 1):
        shape = (len(rows), *sign.value.shape[1:])
        difference, *noisy = (_difference(sign, rest, shape) for rest in rests)
        label = f"{layer_of(sign.value.op)} (sign {number})"
        for is_above, has in sign.thresholds():
            _segments.compare_sign(
                _cuts.Sign(label, partial(_as_sign, is_above), difference),
                has(made).reshape(shape),
                f"between {before} and it",
                rows,
                segments.result("sign", label),
                noisy,
            )
        before = f"layer {label!r}"
    for i, (name, given) in enumerate(zip(spec.outputs, outputs, strict=True)):
        what = f"no sign differs, so the fault lies after that of {before}"
        what += f": output {name!r} differs"
        result = segments.result("output", name)
        mine, *noise = (numbers[i] for numbers in computed)
        _segments.compare_values(mine, given, tolerance, what, rows, result, noise)


def _difference(
    sign: TracedSign, rest: Iterator[np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Returns the numbers that a sign is of: the next, or the difference of two."""
    first, *second = (_aligned(next(rest), len(shape)) for _ in sign.of)
    difference = first - second[0] if second else first
    return np.broadcast_to(difference, shape).astype(np.float32)


def _can_be_given(sign: TracedSign, spec: _converter.IoSpec) -> bool:
    """Whether a sign has examples in front, and shows of what it is taken."""
    shape = sign.value.shape
    known = shape.rank and shape.is_fully_defined() and shape[0] == spec.batch_size
    return bool(sign.of and known)


def _aligned(values: np.ndarray, rank: int) -> np.ndarray:
    """With as many axes as a map, if they are of a constant that has fewer."""
    missing = rank - values.ndim
    return values.reshape(len(values), *[1] * missing, *values.shape[1:])


def _as_sign(is_above: Callable[[Any], Any], numbers: Any) -> np.ndarray:
    return np.where(is_above(np.asarray(numbers)), 1, -1)


def _fed(sign: TracedSign, made: np.ndarray) -> np.ndarray:
    values = sign.rounded(made).reshape(len(made), *sign.value.shape[1:])
    return values.astype(sign.value.dtype.as_numpy_dtype)


def _outputs(
    trace: Trace,
    spec: _converter.IoSpec,
    examples: Examples,
    more: Sequence[Any] = (),
    given: Sequence[Any] = (),
) -> list[np.ndarray]:
    """The outputs of a trace, and more tensors; `given` ones come as inputs, too."""
    whole = trace.function(more, given)
    function = tf.function(lambda *inputs: whole(inputs), autograph=False)
    size, types = spec.batch_size, [x.dtype for x in (*spec.inputs, *given)]

    def run(parts: Examples) -> list[np.ndarray]:
        inputs = [tf.constant(p, t) for p, t in zip(parts, types, strict=True)]
        with _as_one_graph():
            results = function(*inputs)
        return [_by_example(x.numpy(), size) for x in results]

    return _converter.in_batches(run, examples, size)


def _eagerly(
    trace: Trace, spec: _converter.IoSpec, parts: Examples
) -> list[np.ndarray]:
    types = [x.dtype for x in spec.inputs]
    inputs = [tf.constant(p, t) for p, t in zip(parts, types, strict=True)]
    with _as_one_graph():
        results = trace.eagerly(inputs)
    return [_by_example(x.numpy(), spec.batch_size) for x in results]


@contextmanager
def _as_one_graph() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        said = re.sub(r"\{\{.*?\}\} ?", "", error.message).splitlines()[0][:300]
        raise ConversionError(
            f"The operations of the model cannot be run as one graph: {said}. "
            "Replace the layer that does not allow that, or write the model as a "
            "functional one, which is prepared."
        ) from error


def _by_example(values: np.ndarray, size: int) -> np.ndarray:
    """With examples in front: a constant has none, and time may be folded into them."""
    if values.ndim and values.shape[0] == size:
        return values
    if values.ndim and values.shape[0] % size == 0:
        return values.reshape(size, -1)
    return np.broadcast_to(values, (size, *values.shape))


def _probe(
    lowered: LoweredTrace, signs: Sequence[TracedSign], runner: _converter.Runner
) -> Callable[[Examples], tuple[list[np.ndarray], list[np.ndarray]]]:
    """Returns what gives the outputs of a file, and the values of its signs.

    They come from a second file with one output that contains all of it: taken after
    the sign, they change nothing in how LCE fuses and packs, nor where a sign of
    LiteRT saturates.
    """
    trace, spec = lowered.trace, lowered.io
    values, count = [sign.value for sign in signs], len(spec.outputs)

    def in_rows(inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        numbers = lowered.function([value.name for value in values])(inputs)
        rows = [
            tf.reshape(tf.cast(x, tf.float32), (spec.batch_size, -1)) for x in numbers
        ]
        return [tf.concat(rows, axis=1)]

    content = _converter.to_flatbuffer(
        in_rows,
        [],
        _converter.IoSpec(spec.inputs, ["output"]),
        runtime=runner.runtime,
    )
    probe = _converter.Runner(content, runner.runtime)
    shapes = [x.shape for x in _outputs(trace, spec, spec.zeros(), values)]
    ends = np.cumsum([int(np.prod(shape[1:])) for shape in shapes])

    def read(examples: Examples) -> tuple[list[np.ndarray], list[np.ndarray]]:
        parts = np.split(probe.outputs(examples)[0], ends[:-1], axis=1)
        proper = runner.outputs(examples)
        check_same(parts[:count], [_rows(y) for y in proper], LOOK)
        return proper, parts[count:]

    return read


def visible_signs(
    prepared: keras.Model, lowered: LoweredTrace, runner: _converter.Runner
) -> Callable[[list[np.ndarray]], _segments.Recording]:
    """Returns what reads a file without binary operations at the signs of its model.

    They are outputs of a second file, of the same operations. Which is whose, the name
    of its layer tells, where the layer has as many in the trace as in the model.

    Arguments:
        prepared: The model.
        lowered: Its trace.
        runner: Runs the file.
    """
    uses: dict[str, list[_graph.Call]] = defaultdict(list)
    signs: dict[str, list[TracedSign]] = defaultdict(list)
    for call in _graph.calls(prepared):
        if _cuts.cut_at(call):
            uses[call.name].append(call)
    for sign in lowered.trace.signs():
        signs[layer_of(sign.value.op)].append(sign)
    pairs = [
        pair
        for name, calls in uses.items()
        if len(calls) == len(signs[name])
        for pair in zip(calls, signs[name], strict=True)
    ]
    read_all = _probe(lowered, [sign for _, sign in pairs], runner)

    def read(examples: Examples) -> _segments.Recording:
        outputs, made = read_all(examples)
        bits = {
            call.label: (values > 0).reshape(len(values), *sign.value.shape[1:])
            for (call, sign), values in zip(pairs, made, strict=True)
        }
        return _segments.Recording(outputs, bits)

    return read


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)
