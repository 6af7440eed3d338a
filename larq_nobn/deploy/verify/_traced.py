"""Compares a model that was not prepared with its trace, and that with its file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from .._errors import ConversionError
from ..lite import Function, Ports, Runner, Trace, in_batches, to_flatbuffer
from ..lite import inference as inference_of
from ._agreement import MARGIN, SignPair, agreement
from ._taps import LOOK, certain_zeros, check_probe
from ._verify import GIVEN, checked_outputs, refuse

# TensorFlow fuses what it runs as one graph, and so adds up in another order.
_EQUAL = 1e-4

Examples = Sequence[np.ndarray]
# The label of a sign, where it is +1, and how far its input is from 0.
_Tap = tuple[str, np.ndarray, np.ndarray]


def verify_trace(
    model: keras.Model, trace: Trace, ports: Ports, examples: Examples
) -> dict[str, Any]:
    """Compares the given model with its trace, both in TensorFlow.

    The signs of a model that cannot be read are known from the trace alone. So an
    example that differs counts as explained if any sign of it is within rounding of 0,
    and most examples must agree.

    Raises:
        ConversionError: If the given model cannot be compared with anything.
        VerificationError: If the trace computes something else.
    """
    size = ports.batch_size
    given = checked_outputs(
        model, lambda: in_batches(inference_of(model), examples, size), len(examples[0])
    )

    def undecided(which: np.ndarray) -> Iterator[SignPair]:
        """Takes every sign within rounding of 0 for one that turned."""
        for label, positive, distance in taps([array[which] for array in examples]):
            margin = MARGIN * distance.max(axis=1, keepdims=True)
            turned = positive ^ (distance <= margin)
            yield SignPair(label, positive, turned, distance)

    taps = _signs_of(trace, ports)
    found = agreement(given, _outputs(trace, ports, examples), _EQUAL, undecided)
    if found.unexplained or found.exact_share <= 0.5:
        refuse(found, "Tracing the model changed what it computes", _EQUAL)
    return {**found.to_dict(), "reference": GIVEN}


def verify_traced_file(
    trace: Trace, runner: Runner, ports: Ports, examples: Examples, tolerance: float
) -> dict[str, Any]:
    """Compares the trace of a model with the file in LCE's interpreter.

    Raises:
        VerificationError: If some difference is no matter of rounding.
    """
    taps = _signs_of(trace, ports)
    probe = cache(lambda: _probe(trace, runner, ports))

    def pairs(which: np.ndarray) -> Iterator[SignPair]:
        taken = [array[which] for array in examples]
        for tap, bits in zip(taps(taken), probe()(taken), strict=True):
            yield SignPair(tap[0], tap[1], bits > 0, tap[2])

    wanted = _outputs(trace, ports, examples)
    found = agreement(wanted, runner.outputs(examples), tolerance, pairs)
    if found.unexplained:
        refuse(found, "The converted file computes something else", tolerance)
    return found.to_dict()


def _signs_of(trace: Trace, ports: Ports) -> Callable[[Examples], Iterator[_Tap]]:
    signs = trace.signs()
    tensors = [tensor for sign in signs for tensor in (sign.value, *sign.of)]

    def read(examples: Examples) -> Iterator[_Tap]:
        found = _outputs(trace, ports, examples, tensors)
        rest = iter(found[len(ports.outputs) :])
        for place, sign in enumerate(signs):
            positive = _rows(next(rest)) > 0
            distance = _distance([_rows(next(rest)) for _ in sign.of], positive)
            if len(sign.of) == 1 and sign.of[0].op.type in ("Relu", "Relu6"):
                distance = certain_zeros(distance)
            label = f"{sign.value.op.name.split('/')[1]} (sign {place + 1})"
            yield label, positive, distance

    return read


def _rows(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _distance(of: list[np.ndarray], positive: np.ndarray) -> np.ndarray:
    """How far from 0 the input of a sign was; 1 where that is not known."""
    if not of:
        return np.ones(positive.shape)
    second = of[1] if len(of) > 1 else 0.0
    return np.broadcast_to(np.abs(of[0] - second), positive.shape)


def _outputs(
    trace: Trace, ports: Ports, examples: Examples, more: Sequence[Any] = ()
) -> list[np.ndarray]:
    whole = trace.function(more)
    function = tf.function(lambda *inputs: whole(inputs), autograph=False)
    size = ports.batch_size

    def run(parts: Examples) -> list[np.ndarray]:
        inputs = [
            tf.constant(p, i.dtype) for p, i in zip(parts, ports.inputs, strict=True)
        ]
        try:
            found = function(*inputs)
        except tf.errors.OpError as error:
            said = re.sub(r"\{\{.*?\}\} ?", "", error.message).splitlines()[0][:300]
            raise ConversionError(
                f"The operations of the model cannot be run as one graph: {said}. "
                "Replace the layer that does not allow that, or write the model as a "
                "functional one, which is prepared."
            ) from error
        return [_by_example(x.numpy(), size) for x in found]

    return in_batches(run, examples, size)


def _by_example(values: np.ndarray, size: int) -> np.ndarray:
    """With examples in front: a constant has none, and time may be folded into them."""
    if values.ndim and values.shape[0] == size:
        return values
    if values.ndim and values.shape[0] % size == 0:
        return values.reshape(size, -1)
    return np.broadcast_to(values, (size, *values.shape))


def _probe(trace: Trace, runner: Runner, ports: Ports) -> Function:
    """A file whose one output holds the outputs, and the signs behind them."""
    signs, count = trace.signs(), len(ports.outputs)

    def function(inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        found = trace.function([sign.value for sign in signs])(inputs)
        rows = [
            tf.reshape(tf.cast(x, tf.float32), (ports.batch_size, -1)) for x in found
        ]
        return [tf.concat(rows, axis=1)]

    probe = Runner(to_flatbuffer(function, [], Ports(ports.inputs, ["output"])))

    values = [sign.value for sign in signs]
    shapes = [x.shape for x in _outputs(trace, ports, ports.zeros(), values)]
    ends = np.cumsum([int(np.prod(shape[1:])) for shape in shapes])

    def read(examples: Examples) -> list[np.ndarray]:
        parts = np.split(probe.outputs(examples)[0], ends[:-1], axis=1)
        proper = [_rows(y) for y in runner.outputs(examples)]
        check_probe(parts[:count], proper, LOOK)
        return parts[count:]

    return read
