"""Computes models call by call, and compares two forms of one segment by segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._keras import alias, keras
from .._progress import step
from ._cuts import Sign, cut_at
from ._graph import Call, Values
from ._models import run_call, training_argument
from ._segments import (
    NOISES,
    Segments,
    compare_sign,
    compare_thresholds,
    compare_values,
    grouped,
)

# Further from 0 than any threshold.
_FAR = 1e9
# At once, since the feature maps of many examples do not fit into memory.
_GROUP = 16


class Recording(NamedTuple):
    """The values that a form of a network has for some examples.

    Attributes:
        outputs: One array per output.
        signs: Where each sign is +1, by label, and of what has levels which it is.
        inputs: What those layers read whose values are known, by label.
        values: What layers return that are others in the other form, by label.
        numbers: What plain signs are taken of, by label, as far as it is known.
    """

    outputs: list[np.ndarray]
    signs: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray] = {}
    values: dict[str, np.ndarray] = {}
    numbers: dict[str, np.ndarray] = {}


def record(
    model: keras.Model,
    examples: Sequence[np.ndarray],
    values: Mapping[str, str] | None = None,
    skipped: tuple[type, ...] = (),
) -> Recording:
    """Returns what a flat functional model computes at its signs and outputs.

    Arguments:
        model: It.
        examples: One array per input, as many as it takes at once.
        values: The names of layers whose outputs are wanted, too, and of the layers
            whose inputs are.
        skipped: Layers that hand their input on.
    """
    walk = _Walk(model, examples, skipped)
    recording = Recording([], {}, {}, {}, {})
    starts = {first: last for last, first in (values or {}).items()}
    for call in walk.calls:
        if call.name in starts:
            use = call.label[len(call.name) :]
            recording.inputs[starts[call.name] + use] = walk.before(call)
        quantizer = cut_at(call)
        if quantizer is not None:
            sign = Sign(call.label, quantizer, walk.before(call))
            recording.signs[call.label] = sign.positive(sign.values)
            if not sign.has_levels:
                recording.numbers[call.label] = sign.shifted(sign.values)
        made = walk.run(call)
        if call.name in starts.values():
            recording.values[call.label] = made[0].numpy()
    recording.outputs.extend(walk.outputs())
    return recording


def compare(
    reference: keras.Model,
    other: Callable[[list[np.ndarray]], Recording],
    examples: Sequence[np.ndarray],
    tolerance: float,
    skipped: tuple[type, ...] = (),
) -> Segments:
    """Compares a model with another form of it, segment by segment.

    Signs that the other form does not show are not cut at: there, segments are longer.

    Arguments:
        reference: A flat functional model in float32.
        other: Returns what the other form computes for examples.
        examples: One array per input.
        tolerance: Allowed difference of numbers, relative to how far those of a channel
            are apart.
        skipped: Layers of the reference that hand their input on.
    """
    segments = Segments(len(examples[0]))
    for group, rows in _groups(reference, examples):
        step("Comparing examples", rows[0], len(examples[0]))
        theirs = other(group)
        for noisy in segments.attempts(rows):
            noises = (0.0, *NOISES) if noisy else (0.0,)
            walks = [_Walk(reference, group, skipped, noise) for noise in noises]
            _compare_group(
                walks, theirs, reference.output_names, rows, tolerance, segments
            )
    return segments


def _groups(
    model: keras.Model, examples: Sequence[np.ndarray]
) -> Iterator[tuple[list[np.ndarray], list[int]]]:
    """The examples in batches of a size that a model takes, and their numbers."""
    fixed = next(filter(None, (given.shape[0] for given in model.inputs)), None)
    for rows in grouped(examples, fixed or _GROUP):
        if fixed:  # the last ones are filled up
            rows += [rows[-1]] * (fixed - len(rows))
        yield [array[rows] for array in examples], rows


class _Walk:
    """Makes the calls of a model one after another, at inference.

    Arguments:
        model: A flat functional model.
        examples: One array per input.
        skipped: Layers that hand their input on.
        noise: By which part of itself every number of a floating type is off. Also what
            a sign hands to a kernel, since the sum of many terms of the size of a
            kernel rounds even where each is exact.
    """

    def __init__(
        self,
        model: keras.Model,
        examples: Sequence[np.ndarray],
        skipped: tuple[type, ...],
        noise: float = 0.0,
    ) -> None:
        self._skipped, self._noise = skipped, noise
        self._random = np.random.default_rng(0)
        pairs = zip(model.inputs, examples, strict=True)
        inputs = [self._off(tf.constant(array, given.dtype)) for given, array in pairs]
        self._values = Values(model, inputs)
        self.calls = self._values.calls

    def before(self, call: Call) -> np.ndarray:
        """Returns the first tensor that a call reads."""
        return self._values.before(call).numpy()

    def outputs(self) -> list[np.ndarray]:
        """Returns the outputs of the model."""
        return [output.numpy() for output in self._values.outputs()]

    def run(self, call: Call, fed: Any = None, made: Any = None) -> list[Any]:
        """Makes a call, and returns its outputs.

        Arguments:
            call: The next.
            fed: Another first input; None for its own.
            made: What another form made, to be taken for the first output.
        """
        tensors, key = self._values.taken(call), str(id(call.first_input))
        if fed is not None:
            tensors[key] = _with_mask(tf.cast(fed, tensors[key].dtype), tensors[key])
        if isinstance(call.layer, self._skipped):
            outputs = [tensors[key]]
        else:
            free = call.layer._expects_training_arg and training_argument(call) is None
            mode = {"training": False} if free else {}
            outputs = tf.nest.flatten(
                run_call(call, self._layer(call), tensors, **mode)
            )
        if made is not None:
            outputs = [_with_mask(tf.constant(made), outputs[0])]
        self._values.keep(call, [self._off(x) for x in outputs])
        return outputs

    def _layer(self, call: Call) -> keras.layers.Layer:
        quantizer = getattr(call.layer, "input_quantizer", None)
        if quantizer is None or not self._noise:
            return call.layer
        return alias(call.layer, input_quantizer=lambda x: self._off(quantizer(x)))

    def _off(self, x: Any) -> Any:
        if not self._noise or not x.dtype.is_floating:
            return x
        signs = self._random.integers(0, 2, x.shape) * 2 - 1
        return _with_mask(x * tf.constant(1 + self._noise * signs, x.dtype), x)


def _with_mask(tensor: Any, like: Any) -> Any:
    if hasattr(like, "_keras_mask"):
        tensor._keras_mask = like._keras_mask
    return tensor


def _compare_group(
    walks: Sequence[_Walk],
    other: Recording,
    names: Sequence[str],
    rows: list[int],
    tolerance: float,
    segments: Segments,
) -> None:
    """Compares along one walk; more of them, with noise, tell how much rounds."""
    last = "the input"
    for call in walks[0].calls:
        fed, label, made = None, call.label, other.values.get(call.label)
        quantizer, between = cut_at(call), f"between {last} and it"
        if quantizer is not None or made is not None:
            read, *noisy = (walk.before(call) for walk in walks)
        if quantizer is not None and label in other.signs:
            sign, bits = Sign(label, quantizer, read), other.signs[label]
            fed = _fed(sign, bits)
            if fed is not None:
                result = segments.result("sign", label)
                compare_sign(sign, bits, between, rows, result, noisy)
                if label in other.numbers:
                    numbers = other.numbers[label]
                    compare_thresholds(sign, bits, numbers, between, rows, result)
                last = f"layer {label!r}"
        if made is not None:
            what = f"the input of layer {label!r} differs; the fault lies {between}"
            result, pair = segments.result("layer", label), (read, other.inputs[label])
            compare_values(*pair, tolerance, what, rows, result, noisy)
            last = f"layer {label!r}"
        for walk in walks:
            walk.run(call, fed, made)
    ends = zip(*(walk.outputs() for walk in walks), strict=True)
    what = "no sign differs"
    if last != "the input":
        what += f", so the fault lies after that of {last}"
    for name, theirs, (mine, *noisy) in zip(names, other.outputs, ends, strict=True):
        result = segments.result("output", name)
        said = f"{what}: output {name!r} differs"
        compare_values(mine, theirs, tolerance, said, rows, result, noisy)


def _fed(sign: Sign, bits: np.ndarray) -> np.ndarray | None:
    """Numbers whose signs are known; None of what does more than take a plain sign."""
    if bits.shape != sign.values.shape or sign.has_levels != (bits.dtype == np.int32):
        return None
    if sign.has_levels:
        return (bits * _FAR).astype(np.float32)
    fed = np.where(bits, _FAR, -_FAR).astype(np.float32)
    ends = np.full_like(fed[:1], _FAR)
    made, own, low, zero, high = sign.made_of(fed, sign.values, -ends, 0 * ends, ends)
    agree = (own > 0) == bits
    same = np.array_equal(made[agree], own[agree]) and np.array_equal(made > 0, bits)
    # TensorFlow's sign has a third value at 0.
    return fed if same and np.all((zero == low) | (zero == high)) else None
