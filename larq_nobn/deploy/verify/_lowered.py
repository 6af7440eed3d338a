"""Proves that a file computes what the given model does, from sign to sign.

Four forms of a network follow each other: the given model, its trace, the operations
that the trace is lowered to, and the file, which is written from these by rules. The
trace is run one operation after the other, as Keras runs the model, so that both round
alike. From there on networks are cut at their signs, as the trace shows them: each
segment is computed by one form from the signs that the next one has there. Binary
kernels of the operations are ±1, and scaled afterwards, so that sums which are 0 are 0
in them as in the file, while the trace has rounding in their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._progress import step
from ...graph import _cuts, _segments
from .._errors import ConversionError, VerificationError
from .._opening import other_precision
from ..lite import _converter
from ..lite._lce_faults import at_inference
from ..lite._trace import Trace, TracedSign, layer_of
from ..operations import LoweredTrace
from ._agreement import agreement, top1_agreement
from ._file import (
    LOOK,
    FileSigns,
    Recording,
    differing_threshold,
)

GIVEN = "the given model"
NOTHING_WRITTEN = " No file was written."
# A trace computes constants once that the model computes in every call.
_EQUAL = 1e-5
# Up to this, it may still be rounding.
_MAGNIFIED = 1e-3
_ROUNDING = (
    f" Differences below {_MAGNIFIED:g} may be rounding that a norm magnifies: look "
    "for one of constant maps, or with a variance next to 0, and raise its epsilon."
)
_GROUP = 16

Examples = Sequence[np.ndarray]
# What computes the outputs and more tensors of a trace, others of which are given.
_Form = Callable[[Sequence[Any], Sequence[Any]], _converter.Function]
# Returns the outputs for examples, and the other tensors.
_Computed = Callable[[Examples], tuple[list[np.ndarray], list[np.ndarray]]]


def verify_operations(
    model: keras.Model,
    traced: keras.Model,
    lowered: LoweredTrace,
    examples: Examples,
    ending: str = NOTHING_WRITTEN,
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Compares the given model with the operations that its file is written from.

    A model of half precision rounds so coarsely that nearly every example has a sign
    that flips. It is compared in float32, as which it was traced, and its own outputs
    by their top class only. Returns how far they agree, and the operations' outputs.
    """
    signs, io = signs_of(lowered.trace, lowered.io), lowered.io
    tensors = [tensor for sign in signs for tensor in sign.of]
    values = [sign.value for sign in signs]
    computed = _computed(lowered.exact, io, [*values, *tensors])

    def read(part: Examples) -> Recording:
        outputs, made = computed(part)
        rest = iter(made[len(signs) :])
        numbers = {i: _difference(sign, rest) for i, sign in enumerate(signs)}
        return Recording(outputs, made[: len(signs)], numbers)

    return verify_made(model, traced, lowered.trace, io, signs, read, examples, ending)


def verify_made(
    model: keras.Model,
    traced: keras.Model,
    trace: Trace,
    io: _converter.IoSpec,
    signs: Sequence[TracedSign],
    read: Callable[[Examples], Recording],
    examples: Examples,
    ending: str = NOTHING_WRITTEN,
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Compares the given model with what `read` has at these signs of its trace."""
    wanted = given = _called(model, examples)
    if traced is not model:
        given = _called(traced, examples)
    _check_trace(traced, given, trace, io, examples, ending)

    def form(noise: float) -> _Form:
        return trace.with_noise(noise).function if noise else trace.function

    segments = _compare(form, io, signs, read, examples, _EQUAL)
    if segments.finding:
        what = "Preparing the model changed what it computes"
        raise _mismatch(segments, what, _EQUAL, ending)
    basis = GIVEN
    if traced is not model:
        same = top1_agreement(wanted, segments.outputs)
        basis = (
            f"{GIVEN} in float32; in its {other_precision(model)} {same:.1%} of the "
            "examples have the same top class"
        )
    numbers = agreement(given, segments.outputs, _EQUAL, segments)
    return {**numbers, "reference": basis}, segments.outputs


def verify_file(
    lowered: LoweredTrace,
    wanted: Sequence[np.ndarray],
    content: bytes,
    runner: _converter.Runner,
    examples: Examples,
    tolerance: float,
) -> dict[str, Any]:
    """Compares the operations of a model, and their outputs, with the file."""
    signs, io = signs_of(lowered.trace, lowered.io), lowered.io
    read = FileSigns(lowered, signs, content, runner)

    def form(noise: float) -> _Form:
        return partial(lowered.exact, noise=noise)

    segments = _compare(form, io, read.signs, read, examples, tolerance)
    if segments.finding:
        what = "The converted file computes something else"
        raise _mismatch(segments, what, tolerance, NOTHING_WRITTEN)
    differing = differing_threshold(lowered.program, content)
    if differing:
        raise VerificationError(
            "The converted file computes something else, though in none of the "
            f"examples: {differing}.{NOTHING_WRITTEN}"
        )
    return agreement(wanted, segments.outputs, tolerance, segments)


def _mismatch(
    segments: _segments.Segments, what: str, tolerance: float, ending: str
) -> VerificationError:
    """Returns an error that says how many examples differ, and where."""
    return VerificationError(
        f"{what}: {len(segments.faulty)} of {segments.examples} examples differ by "
        f"more than tolerance={tolerance:g}, and not by the rounding of a sign: "
        f"{segments.finding}.{ending}"
    )


# --- the given model and its trace


def _called(model: keras.Model, examples: Examples) -> list[np.ndarray]:
    """Returns what a given model gives for examples, if it can be compared."""
    with at_inference():
        made = _converter.run(model, examples)
    for name, output in zip(model.output_names, made, strict=True):
        if len(output) != len(examples[0]):
            raise ConversionError(
                f"Output {name!r} of model {model.name!r} has {len(output)} rows for "
                f"{len(examples[0])} examples. Give it one for each, along the first "
                "axis."
            )
        if not np.isfinite(output).all():
            raise ConversionError(
                f"Model {model.name!r} gives outputs that are not finite on the "
                "verification examples. Look for NaN in its weights, or pass other "
                "data."
            )
    return [output.astype(np.float32) for output in made]


def _check_trace(
    model: keras.Model,
    given: list[np.ndarray],
    trace: Trace,
    io: _converter.IoSpec,
    examples: Examples,
    ending: str,
) -> None:
    """Compares the outputs of a model and of its trace, which round alike.

    No sign excuses anything here. Kernels for more examples at once may round
    otherwise: those that differ are computed again, as many at once as in the trace.
    """
    size = io.batch_size
    traced = _converter.in_batches(partial(_eagerly, trace, io), examples, size)
    segments = _ends(given, traced, io, examples)
    if segments.finding:
        rows = segments.faulty
        taken = [array[rows] for array in examples]
        with at_inference():
            again = _converter.in_batches(_converter.called(model), taken, size)
        for array, part in zip(given, again, strict=True):
            array[rows] = part
        segments = _ends(given, traced, io, examples)
    if segments.finding:
        # The trace tells how much rounds.
        forms = [partial(_eagerly, trace.with_noise(x), io) for x in _segments.NOISES]
        noisy = [_converter.in_batches(x, examples, io.batch_size) for x in forms]
        segments = _ends(traced, given, io, examples, noisy)
    if segments.finding:
        worst = max(x.worst for x in segments.results.values() if x.fault)
        small = _ROUNDING if worst <= _MAGNIFIED else ""
        what = "Tracing the model changed what it computes"
        raise _mismatch(segments, what, _EQUAL, f" {LOOK}{small}{ending}")


def _ends(
    mine: list[np.ndarray],
    theirs: list[np.ndarray],
    io: _converter.IoSpec,
    examples: Examples,
    noisy: Sequence[list[np.ndarray]] = (),
) -> _segments.Segments:
    """Compares outputs, of each group of examples for itself."""
    segments = _segments.Segments(len(mine[0]), theirs)
    groups = _segments.grouped(examples, len(mine[0]))
    for rows, (i, name) in product(groups, enumerate(io.outputs)):
        result = segments.result("output", name)
        noise = [numbers[i][rows] for numbers in noisy]
        what, pair = f"output {name!r} differs", (mine[i][rows], theirs[i][rows])
        _segments.compare_values(*pair, _EQUAL, what, rows, result, noise)
    return segments


def _eagerly(trace: Trace, io: _converter.IoSpec, parts: Examples) -> list[np.ndarray]:
    inputs = [tf.constant(p, x.dtype) for p, x in zip(parts, io.inputs, strict=True)]
    with _as_one_graph():
        results = trace.eagerly(inputs)
    return [_by_example(x.numpy(), io.batch_size) for x in results]


# --- from sign to sign


def signs_of(trace: Trace, io: _converter.IoSpec) -> list[TracedSign]:
    """The signs of a trace that have examples in front, and show what they are of."""
    signs = []
    for sign in trace.signs():
        shape = sign.value.shape
        known = shape.rank and shape.is_fully_defined()
        if sign.of and known and shape[0] == io.batch_size:
            signs.append(sign)
    return signs


def _compare(
    form: Callable[[float], _Form],
    io: _converter.IoSpec,
    signs: Sequence[TracedSign],
    read: Callable[[Examples], Recording],
    examples: Examples,
    tolerance: float,
) -> _segments.Segments:
    """Compares a form, which with noise tells how much rounds, with another one."""
    count = len(examples[0])
    segments, parts = _segments.Segments(count), []
    values = [sign.value for sign in signs]
    tensors = [tensor for sign in signs for tensor in sign.of]

    @cache
    def computed(noise: float) -> _Computed:
        return _computed(form(noise), io, tensors, values)

    for rows in _segments.grouped(examples, _GROUP):
        step("Comparing examples", rows[0], count)
        taken = [array[rows] for array in examples]
        other = read(taken)
        parts.append(other.outputs)
        fed = [_fed(*pair) for pair in zip(signs, other.values, strict=True)]
        for noisy in segments.attempts(rows):
            noises = (0.0, *_segments.NOISES) if noisy else (0.0,)
            ours = [computed(noise)([*taken, *fed]) for noise in noises]
            _compare_group(ours, signs, io.outputs, other, rows, tolerance, segments)
    segments.outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return segments


def _compare_group(
    ours: Sequence[tuple[list[np.ndarray], list[np.ndarray]]],
    signs: Sequence[TracedSign],
    names: Sequence[str],
    other: Recording,
    rows: list[int],
    tolerance: float,
    segments: _segments.Segments,
) -> None:
    """Compares the signs and outputs of some examples; others of `ours` have noise."""
    rests = [iter(numbers) for _, numbers in ours]
    before, labels = "the input", _labels(signs)
    for number, (sign, made) in enumerate(zip(signs, other.values, strict=True)):
        difference, *noisy = (_difference(sign, rest) for rest in rests)
        label = labels[number]
        between, result = f"between {before} and it", segments.result("sign", label)
        for is_above, has in sign.thresholds():

            def signs_of(numbers: Any, is_above: Any = is_above) -> np.ndarray:
                return np.where(is_above(np.asarray(numbers)), 1, -1)

            taken = _cuts.Sign(label, signs_of, difference)
            bits = has(made).reshape(difference.shape)
            _segments.compare_sign(taken, bits, between, rows, result, noisy)
            if number in other.numbers:
                numbers = other.numbers[number]
                _segments.compare_thresholds(
                    taken, bits, numbers, between, rows, result
                )
        before = f"layer {label!r}"
    ends = zip(*(outputs for outputs, _ in ours), strict=True)
    for name, theirs, (mine, *noise) in zip(names, other.outputs, ends, strict=True):
        what = f"no sign differs, so the fault lies after that of {before}"
        what += f": output {name!r} differs"
        result = segments.result("output", name)
        _segments.compare_values(mine, theirs, tolerance, what, rows, result, noise)


def _labels(signs: Sequence[TracedSign]) -> list[str]:
    """The names of the layers of signs; of a second one of a layer with its number."""
    names = [layer_of(sign.value.op) for sign in signs]
    numbers = [names[: place + 1].count(name) for place, name in enumerate(names)]
    pairs = zip(names, numbers, strict=True)
    return [name if n == 1 else f"{name} (sign {n})" for name, n in pairs]


def _difference(sign: TracedSign, rest: Iterator[np.ndarray]) -> np.ndarray:
    """Returns the numbers that a sign is of: the next, or the difference of two."""
    shape = sign.value.shape
    values = (next(rest) for _ in sign.of)
    # With as many axes as a map, if they are of a constant that has fewer.
    ones = [1] * len(shape)
    first, *second = (x.reshape(len(x), *ones[x.ndim :], *x.shape[1:]) for x in values)
    difference = first - second[0] if second else first
    return np.broadcast_to(difference, (len(first), *shape[1:])).astype(np.float32)


def _fed(sign: TracedSign, made: np.ndarray) -> np.ndarray:
    values = sign.rounded(made).reshape(len(made), *sign.value.shape[1:])
    return values.astype(sign.value.dtype.as_numpy_dtype)


def _computed(
    form: _Form,
    io: _converter.IoSpec,
    more: Sequence[Any] = (),
    given: Sequence[Any] = (),
) -> _Computed:
    """Computes outputs of a form, and more tensors; `given` ones follow the inputs."""
    types = [x.dtype for x in (*io.inputs, *given)]

    @cache
    def function() -> Any:
        whole = form(more, given)
        return tf.function(lambda *inputs: whole(inputs), autograph=False)

    def run(parts: Examples) -> list[np.ndarray]:
        inputs = [tf.constant(p, t) for p, t in zip(parts, types, strict=True)]
        with _as_one_graph():
            results = function()(*inputs)
        return [_by_example(x.numpy(), io.batch_size) for x in results]

    def computed(examples: Examples) -> tuple[list[np.ndarray], list[np.ndarray]]:
        arrays = _converter.in_batches(run, examples, io.batch_size)
        return arrays[: len(io.outputs)], arrays[len(io.outputs) :]

    return computed


@contextmanager
def _as_one_graph() -> Iterator[None]:
    """Runs graphs as they are: a scale that became part of a kernel would round."""
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    except tf.errors.OpError as error:
        said = re.sub(r"\{\{.*?\}\} ?", "", error.message).splitlines()[0][:300]
        raise ConversionError(
            f"The operations of the model cannot be run as one graph: {said}. "
            "Replace the layer that does not allow that."
        ) from error
    finally:
        restored = {"disable_meta_optimizer": False, **options}
        tf.config.optimizer.set_experimental_options(restored)


def _by_example(values: np.ndarray, size: int) -> np.ndarray:
    """With examples in front: a constant has none, and time may be folded into them."""
    if values.ndim and values.shape[0] == size:
        return values
    if values.ndim and values.shape[0] % size == 0:
        return values.reshape(size, -1)
    return np.broadcast_to(values, (size, *values.shape))
