"""Compares two forms of a traced network from sign to sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._messages import first_line
from ..._progress import step
from .._errors import ConversionError
from ..lite import _converter
from ..lite._trace import TracedSign, layer_of
from . import _segments

_GROUP = 16

Examples = Sequence[np.ndarray]
# What computes the outputs and more tensors of a trace, others of which are given; with
# noise, it tells how much rounds.
Form = Callable[[Sequence[Any], Sequence[Any], float], _converter.Function]


class Recording(NamedTuple):
    """What a form of a network has for some examples.

    Attributes:
        outputs: One array per output.
        values: What each sign makes, (examples, ...).
        numbers: Of what it is taken, by its place among the signs, as far as known.
    """

    outputs: list[np.ndarray]
    values: list[np.ndarray]
    numbers: Mapping[int, np.ndarray]


def recorder(
    form: Form,
    io: _converter.IoSpec,
    signs: Sequence[TracedSign],
    given: Sequence[Any] = (),
    noise: float = 0.0,
) -> Callable[[Examples], Recording]:
    """Returns what computes a form for examples, and shows it at some signs.

    Examples of `given` tensors follow the inputs; these are not computed.
    """
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in (*io.inputs, *given)]
    shown = [sign.value for sign in signs]
    shown += [tensor for sign in signs for tensor in sign.of]

    @cache
    def function() -> Any:
        whole = form(shown, given, noise)
        traced = tf.function(lambda *inputs: whole(inputs), autograph=False)
        # Of one trace and few calls each, TensorFlow would warn after some models.
        return traced.get_concrete_function(*specs)

    def read(examples: Examples) -> Recording:
        arrays = iter(computed(function(), specs, examples, io.batch_size))
        outputs, values = ([next(arrays) for _ in x] for x in (io.outputs, signs))
        numbers = {i: _difference(sign, arrays) for i, sign in enumerate(signs)}
        return Recording(outputs, values, numbers)

    return read


def compare(
    form: Form,
    io: _converter.IoSpec,
    signs: Sequence[TracedSign],
    read: Callable[[Examples], Recording],
    examples: Examples,
    tolerance: float,
) -> _segments.Segments:
    """Compares a form with what `read` shows of another one, cut at the same signs.

    Outputs may differ by `tolerance`.
    """
    count, labels = len(examples[0]), labels_of(signs)
    segments, parts = _segments.Segments(count), []
    values = [sign.value for sign in signs]
    noises = (0.0, *_segments.NOISES)
    recorders = [recorder(form, io, signs, values, noise) for noise in noises]

    def note(ours: Sequence[Recording], other: Recording, rows: list[int]) -> None:
        """Compares some examples; others of `ours` than the first have noise."""
        before = "the input"
        for number, (sign, label) in enumerate(zip(signs, labels, strict=True)):
            difference, *noisy = (own.numbers[number] for own in ours)
            result = segments.result("sign", label)
            place = f"between {before} and it", rows, result
            for is_above, has in sign.thresholds():
                bits = has(other.values[number]).reshape(difference.shape)
                _segments.compare_sign(
                    difference, is_above, bits, *place, noisy, sign.is_rectified
                )
                if (numbers := other.numbers.get(number)) is not None:
                    _segments.compare_thresholds(difference, bits, numbers, *place)
            before = f"layer {label!r}"
        what = f"no sign differs, so the fault lies after that of {before}: output "
        ends = zip(other.outputs, *(own.outputs for own in ours), strict=True)
        for name, (theirs, mine, *noise) in zip(io.outputs, ends, strict=True):
            said, result = f"{what}{name!r} differs", segments.result("output", name)
            _segments.compare_values(mine, theirs, tolerance, said, rows, result, noise)

    for rows in _segments.grouped(examples, _GROUP):
        step("Comparing examples", rows[0], count)
        taken = [array[rows] for array in examples]
        other = read(taken)
        parts.append(other.outputs)
        fed = [_fed(*pair) for pair in zip(signs, other.values, strict=True)]
        results = deepcopy(segments.results)
        ours = [recorders[0]([*taken, *fed])]
        note(ours, other, rows)
        if {*segments.faulty} & {*rows}:
            # What noise excuses takes the place of what was noted without it.
            segments.results = results
            ours += [own([*taken, *fed]) for own in recorders[1:]]
            note(ours, other, rows)
    segments.outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return segments


def labels_of(signs: Sequence[TracedSign]) -> list[str]:
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


def computed(
    function: Callable[..., Sequence[Any]],
    specs: Sequence[Any],
    examples: Examples,
    size: int,
) -> list[np.ndarray]:
    """Applies a function of tensors to all examples, in batches of one size.

    `specs` are anything of the types that its arguments have.
    """

    def run(parts: Examples) -> list[np.ndarray]:
        inputs = [tf.constant(p, x.dtype) for p, x in zip(parts, specs, strict=True)]
        with _as_one_graph():
            results = function(*inputs)
        return [_by_example(x.numpy(), size) for x in results]

    return _converter.in_batches(run, examples, size)


@contextmanager
def _as_one_graph() -> Iterator[None]:
    """Runs graphs as they are: a scale that became part of a kernel would round."""
    options = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    except tf.errors.OpError as error:
        said = first_line(error).rstrip(".")
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
