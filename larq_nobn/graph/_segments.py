"""Compares two forms of a network segment by segment.

A sign turns a rounding error of 1e-7 into a jump from -1 to +1, so two correct forms of
one network may differ a lot from end to end. A network is therefore cut at its signs,
at ternary signs, at bins, and where it compares numbers with constants, as in `x > 0`.
Each segment, from the signs and inputs that it reads to the next pre-activations and
outputs, is computed by the reference from the values that the other form itself had
there. So nothing is amplified: a sign that rounding decides changes what is fed
forward, and excuses nothing after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .._keras import alias, keras
from .._progress import step
from ._cuts import FAR, Bins, Sign, cut_at
from ._graph import Call, calls, inputs_of
from ._kinds import function_traits, kernels_of, traits
from ._models import run_call, training_argument

# How close to 0 a pre-activation must be for its sign to be a matter of rounding, as a
# fraction of the largest pre-activation of its channel: 84 float32 epsilons. Sums of n
# floats in another order differ by about sqrt(n) epsilons of their magnitude (48 for
# the 2304 terms of a 3x3 convolution over 256 channels). A wrong weight changes
# pre-activations by fractions of 1e-2 and more.
MARGIN = 1e-5
# A channel of small numbers may be made of large terms, whose sums round as these do.
# How much that is, a second walk tells, in which whatever layers read and return is off
# by this fraction of itself, 16 float32 epsilons, at random. Numbers may differ by a
# few times what they are off by there, but by no more than the same fraction of the
# largest number of all channels: a step that turns there says nothing of rounding. What
# another walk, off by 64 times as much, moves further by far is no step, and counts
# whatever the other channels are: all of them may cancel.
_NOISE, _FARTHER = 2e-6, 64
NOISES = (_NOISE, _FARTHER * _NOISE)
_TIMES, _BY_FAR = 4, 16
# At once, since the feature maps of many examples do not fit into memory.
GROUP = 16
# No larger is what a network sees.
_USUAL = 300.0


class ConstantSigns(NamedTuple):
    """The channels whose sign is the same in all examples.

    Attributes:
        channels: Which, (n,).
        distances: How far their pre-activations are above the threshold, (positions,
            n), times any positive number per channel.
    """

    channels: np.ndarray
    distances: np.ndarray

    def negated(self, where: Any) -> ConstantSigns:
        """Returns the constant signs of a form with opposite signs in some channels."""
        factor = np.where(np.asarray(where)[self.channels], -1.0, 1.0)
        return self._replace(distances=self.distances * factor)


class Recording(NamedTuple):
    """The values that a form of a network has for some examples.

    Attributes:
        outputs: One array per output.
        signs: Where each sign is +1, by label, and of what has levels which it is; a
            list of what it may be where that is not known, of which the likeliest is
            taken. Whichever it is, what follows from it must be what the other form
            computes.
        inputs: What those layers read whose values are known, by label.
        values: What layers return that are others in the other form, by label.
        still: What no example turns, by label, as far as it is known: the threshold may
            be anywhere beyond, and is compared itself.
    """

    outputs: list[np.ndarray]
    signs: dict[str, Any]
    inputs: dict[str, np.ndarray] = {}
    values: dict[str, np.ndarray] = {}
    still: dict[str, ConstantSigns] = {}


@dataclass
class CutResult:
    """How far the forms agree at one sign or output.

    Attributes:
        name: The label of the sign, or the name of the output.
        count: How many numbers were compared.
        near: How many of these are pre-activations within rounding of the threshold.
        flipped_examples: Those in which rounding decides one or more signs otherwise.
        worst: The largest difference, relative to the largest number of its channel.
        fault: What differs by more than rounding; empty for nothing.
        faulty: The examples in which it does.
    """

    name: str
    count: int = 0
    near: int = 0
    flipped_examples: set[int] = field(default_factory=set)
    worst: float = 0.0
    fault: str = ""
    faulty: set[int] = field(default_factory=set)


@dataclass
class Segments:
    """The comparison of two forms, segment by segment.

    Attributes:
        examples: How many were compared.
        outputs: Those of the other form.
        results: By key, in the order of the network, signs before outputs.
    """

    examples: int
    outputs: list[np.ndarray] = field(default_factory=list)
    results: dict[tuple[str, str], CutResult] = field(default_factory=dict)

    def result(self, kind: str, name: str) -> CutResult:
        """Returns the result at a sign, at an output, or at another cut."""
        return self.results.setdefault((kind, name), CutResult(name))

    def attempts(self, rows: Collection[int]) -> Iterator[bool]:
        """Yields whether to compare examples with noise: only if they differ without.

        What noise excuses takes the place of what was noted without it.
        """
        before = deepcopy(self.results)
        yield False
        if any(result.faulty & set(rows) for result in self.results.values()):
            self.results = before
            yield True

    @property
    def finding(self) -> str:
        """The first fault, in the order of the network; empty if there is none."""
        return next((p.fault for p in self.results.values() if p.fault), "")

    @property
    def faulty(self) -> list[int]:
        """The examples in which some segment differs."""
        return sorted(set().union(*(p.faulty for p in self.results.values())))

    @property
    def ties(self) -> list[dict[str, Any]]:
        """The signs that rounding decides, those of most examples first."""
        rows = [
            {
                "layer": result.name,
                "examples": len(result.flipped_examples),
                "share": result.near / result.count,
            }
            for result in self.results.values()
            if result.flipped_examples
        ]
        return sorted(rows, key=lambda row: -row["examples"])

    def to_dict(self) -> dict[str, Any]:
        """Returns what was compared, as plain JSON types."""
        results = list(self.results.values())
        signs = [p for (kind, _), p in self.results.items() if kind == "sign"]
        worst = max(results, key=lambda result: result.worst)
        count = sum(result.count for result in signs)
        return {
            "compared": len(results),
            "signs": count,
            "worst": {"layer": worst.name, "difference": float(worst.worst)},
            "within_rounding": sum(p.near for p in signs) / count if count else 0.0,
        }


def compare(
    reference: keras.Model,
    other: Callable[[list[np.ndarray]], Recording],
    examples: Sequence[np.ndarray],
    tolerance: float,
    skipped: tuple[type, ...] = (),
    at_once: int = GROUP,
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
        at_once: How many examples are compared in one go.
    """
    segments = Segments(len(examples[0]))
    outputs: list[list[np.ndarray]] = []
    for group, rows in _groups(reference, examples, at_once):
        step("Comparing examples", rows[0], len(examples[0]))
        theirs = other(group)
        for noisy in segments.attempts(rows):
            walks = [_Walk(reference, group, skipped)]
            if noisy:
                walks += [_NoisyWalk(x, reference, group, skipped) for x in NOISES]
            _compare_group(
                walks, theirs, reference.output_names, rows, tolerance, segments
            )
        count = len(set(rows))
        outputs.append([np.asarray(output)[:count] for output in theirs.outputs])
    segments.outputs = [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
    return segments


def rounding_of(values: np.ndarray, noisy: Sequence[np.ndarray]) -> np.ndarray:
    """How far rounding reaches in each channel beyond that of its own numbers, (C,).

    Arguments:
        values: Numbers of the reference.
        noisy: The same of a walk for each of `NOISES`; empty for no more than that.
    """
    sizes = _sizes(values)
    if not noisy:
        return np.zeros_like(sizes)
    with np.errstate(invalid="ignore"):
        apart = [np.abs(np.asarray(walked, float) - values) for walked in noisy]
    little, much = (_sizes(np.where(np.isfinite(x), x, 0)) for x in apart)
    largest = np.minimum(_TIMES * little, _NOISE * sizes.max(initial=0))
    smooth = np.minimum(little, much / _FARTHER)
    return np.where(much >= _BY_FAR * little, np.maximum(largest, smooth), largest)


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
            x = walk.before(call)
            sign = Sign(call.label, quantizer, x)
            recording.signs[call.label] = sign.positive(x)
            if not sign.has_levels:
                recording.still[call.label] = constant_signs(
                    sign.shifted(x), recording.signs[call.label]
                )
        walk.run(call)
        if call.name in starts.values():
            recording.values[call.label] = walk.after(call)
    recording.outputs.extend(walk.outputs())
    return recording


def constant_signs(numbers: np.ndarray, positive: np.ndarray) -> ConstantSigns:
    """Returns the channels of pre-activations whose sign no example turns."""
    columns = positive.reshape(-1, positive.shape[-1])
    channels = np.flatnonzero(columns.all(axis=0) | ~columns.any(axis=0))
    distances = numbers.reshape(columns.shape)[:, channels]
    return ConstantSigns(channels, distances.astype(float))


def _groups(
    model: keras.Model, examples: Sequence[np.ndarray], at_once: int
) -> list[tuple[list[np.ndarray], list[int]]]:
    """The examples in batches of a size that a model takes, and their numbers."""
    fixed = next(filter(None, (given.shape[0] for given in model.inputs)), None)
    groups = []
    for rows in grouped(examples, fixed or at_once):
        if fixed:  # the last ones are filled up
            rows += [rows[-1]] * (fixed - len(rows))
        groups.append(([array[rows] for array in examples], rows))
    return groups


def grouped(examples: Sequence[np.ndarray], most: int) -> Iterator[list[int]]:
    """Yields the numbers of examples that are compared at once, in their order.

    Those of far larger numbers are apart, or what is allowed would go by these.
    """
    for _, alike in groupby(range(len(examples[0])), partial(_order_of, examples)):
        part = list(alike)
        for start in range(0, len(part), most):
            yield part[start : start + most]


def _order_of(examples: Sequence[np.ndarray], row: int) -> int:
    """The order of magnitude of an example beyond that of the pixels of an image."""
    reals = [array[row] for array in examples if array.dtype.kind == "f"]
    sizes = (np.abs(x[np.isfinite(x)]).max(initial=0.0) for x in reals)
    largest = max(sizes, default=0.0)
    return int(np.log10(max(largest / _USUAL, 1.0)))


class _Walk:
    """Computes the calls of a model one after another, at inference.

    What no later call reads is forgotten.
    """

    def __init__(
        self,
        model: keras.Model,
        examples: Sequence[np.ndarray],
        skipped: tuple[type, ...],
    ) -> None:
        self.calls = calls(model)
        self._ends = [str(id(end)) for end in model.outputs]
        self._skipped = skipped
        self._left = Counter(
            key for call in self.calls for key in {str(id(x)) for x in _read(call)}
        )
        self._left.update(self._ends)
        self._tensors = {
            str(id(given)): tf.constant(array, given.dtype)
            for given, array in zip(model.inputs, examples, strict=True)
        }
        # The cuts that a tensor depends on.
        self._origins: dict[str, frozenset[str]] = {}

    def before(self, call: Call) -> np.ndarray:
        """Returns the first tensor that a call reads."""
        return self._tensors[_key(call)].numpy()

    def after(self, call: Call) -> np.ndarray:
        """Returns the first tensor that a call has made."""
        return self._tensors[str(id(call.first_output))].numpy()

    def origins(self, call: Call) -> frozenset[str]:
        """Returns the cuts that its inputs depend on."""
        keys = (str(id(tensor)) for tensor in _read(call))
        return frozenset().union(*(self._origins.get(key, frozenset()) for key in keys))

    def end_origins(self) -> list[frozenset[str]]:
        """Returns the cuts that each output depends on."""
        return [self._origins.get(end, frozenset()) for end in self._ends]

    def run(self, call: Call, fed: Any = None, cut: bool = False) -> None:
        """Makes a call, of another first input where one is given."""
        tensors, keys = self._tensors, {str(id(x)) for x in _read(call)}
        if fed is not None:
            given = tensors[_key(call)]
            fed = tf.cast(fed, given.dtype)
            if hasattr(given, "_keras_mask"):
                fed._keras_mask = given._keras_mask
            tensors = {**tensors, _key(call): fed}
        if isinstance(call.layer, self._skipped):
            made = tensors[_key(call)]
        else:
            # A mode that was fixed in the call stays.
            takes = call.layer._expects_training_arg and training_argument(call) is None
            mode = {"training": False} if takes else {}
            made = run_call(call, self._layer(call), tensors, **mode)
        self._keep(call, tf.nest.flatten(made), cut)
        for key in keys:
            self._left[key] -= 1
            if not self._left[key]:
                del self._tensors[key]

    def _layer(self, call: Call) -> keras.layers.Layer:
        return call.layer

    def replace(self, call: Call, values: np.ndarray) -> None:
        """Takes what another form made for what a call makes."""
        made = tf.constant(values)
        made._keras_mask = getattr(
            self._tensors.get(str(id(call.first_output))), "_keras_mask", None
        )
        self._keep(call, [made], cut=True)

    def _keep(self, call: Call, made: list[Any], cut: bool) -> None:
        origins = frozenset([call.label]) if cut else self.origins(call)
        for key, tensor in zip(call.node.flat_output_ids, made, strict=False):
            if self._left[key]:
                self._tensors[key] = tensor
                self._origins[key] = origins

    def outputs(self) -> list[np.ndarray]:
        """Returns the outputs of the model."""
        return [self._tensors[end].numpy() for end in self._ends]


class _NoisyWalk(_Walk):
    """A walk in which every number of a floating type is off by a part of itself.

    Also what a sign hands to a kernel, since the sum of many terms of the size of a
    kernel rounds even where each is exact.
    """

    def __init__(self, noise: float, *arguments: Any) -> None:
        self._random, self._noise = np.random.default_rng(0), noise
        super().__init__(*arguments)
        self._tensors = {key: self._off(x) for key, x in self._tensors.items()}

    def _layer(self, call: Call) -> keras.layers.Layer:
        quantizer = getattr(call.layer, "input_quantizer", None)
        if quantizer is None:
            return call.layer
        return alias(call.layer, input_quantizer=lambda x: self._off(quantizer(x)))

    def _keep(self, call: Call, made: list[Any], cut: bool) -> None:
        super()._keep(call, [self._off(x) for x in made], cut)

    def _off(self, x: Any) -> Any:
        if not x.dtype.is_floating:
            return x
        signs = self._random.integers(0, 2, x.shape) * 2 - 1
        noisy = x * tf.constant(1 + self._noise * signs, x.dtype)
        if hasattr(x, "_keras_mask"):
            noisy._keras_mask = x._keras_mask
        return noisy


def _read(call: Call) -> list[Any]:
    return inputs_of(call.node)


def _key(call: Call) -> str:
    return str(id(call.first_input))


def _compare_group(
    walks: Sequence[_Walk],
    other: Recording,
    names: Sequence[str],
    rows: list[int],
    tolerance: float,
    segments: Segments,
) -> None:
    """Compares along one walk; more of them, with noise, tell how much rounds."""
    walk, order = walks[0], dict[str, int]()
    made = {id(call.first_output): call for call in walk.calls}
    for same_calls in zip(*(w.calls for w in walks), strict=True):
        call = same_calls[0]
        fed, quantizer = None, cut_at(call)
        replaced = call.label in other.values
        if quantizer is not None or replaced:
            read, *noisy = (w.before(c) for w, c in zip(walks, same_calls, strict=True))
        if quantizer is not None:
            sign = Sign(call.label, quantizer, read)
            bits = _bits(sign, other)
            fed = None if bits is None else _fed(sign, bits)
        if fed is not None and bits is not None:
            between = f"between {_named(walk.origins(call), order)} and it"
            result = segments.result("sign", call.label)
            compare_sign(sign, bits, between, rows, result, noisy)
            still = other.still.get(call.label)
            if still is not None and _is_of_sums(call, made):
                compare_thresholds(sign, still, between, rows, result)
            order[call.label] = len(order)
        if replaced:
            what = f"the input of layer {call.label!r} differs; the fault lies "
            what += f"between {_named(walk.origins(call), order)} and it"
            result = segments.result("layer", call.label)
            pair = read, other.inputs[call.label]
            compare_values(*pair, tolerance, what, rows, result, noisy)
        for one_walk, own_call in zip(walks, same_calls, strict=True):
            one_walk.run(own_call, fed, cut=fed is not None)
            if replaced:
                one_walk.replace(own_call, other.values[call.label])
        if replaced:
            order.setdefault(call.label, len(order))
    ends = zip(
        names, zip(*(w.outputs() for w in walks), strict=True), other.outputs,
        walk.end_origins(), strict=True,
    )  # fmt: skip
    for name, (mine, *noise), theirs, origins in ends:
        what = "no sign differs"
        if origins:
            what += f", so the fault lies after that of {_named(origins, order)}"
        result = segments.result("output", name)
        what += f": output {name!r} differs"
        compare_values(mine, theirs, tolerance, what, rows, result, noise)


def _bits(sign: Sign, other: Recording) -> np.ndarray | None:
    """Where the other form has +1, in the shape of the reference; None if unknown."""
    bits = other.signs.get(sign.label)
    if sign.has_levels and getattr(bits, "dtype", None) != np.int32:
        return None
    if isinstance(bits, list):
        own = sign.positive(sign.values)
        fitting = [x.reshape(own.shape) for x in bits if x.size == own.size]
        return min(fitting, key=lambda x: int((x != own).sum()), default=None)
    if bits is None:
        return None
    # What stands before sequences, for causal padding, the reference may lack.
    size = sign.values[0].size
    flat = np.reshape(bits, (len(bits), -1))
    if flat.shape[1] < size:
        return None
    return flat[:, flat.shape[1] - size :].reshape(sign.values.shape)


def _fed(sign: Sign, bits: np.ndarray) -> np.ndarray | None:
    """Numbers whose signs are known; None of what does more than take a plain sign."""
    if isinstance(sign.quantizer, Bins):
        return sign.quantizer.fed(bits)
    if sign.has_levels:
        return (bits * FAR).astype(np.float32)
    fed = np.where(bits, FAR, -FAR).astype(np.float32)
    ends = np.full_like(fed[:1], FAR)
    made, own, low, zero, high = sign.made_of(fed, sign.values, -ends, 0 * ends, ends)
    agree = (own > 0) == bits
    same = np.array_equal(made[agree], own[agree]) and np.array_equal(made > 0, bits)
    # TensorFlow's sign has a third value at 0.
    return fed if same and np.all((zero == low) | (zero == high)) else None


def compare_sign(
    sign: Sign,
    bits: np.ndarray,
    between: str,
    rows: list[int],
    result: CutResult,
    noisy: Sequence[np.ndarray] = (),
) -> None:
    """Compares the signs of pre-activations with those that another form has there.

    Arguments:
        sign: Those of the reference.
        bits: Where the other form has +1.
        between: Where a fault would lie, for the message.
        rows: The numbers of the examples.
        result: Is told what was found.
        noisy: The pre-activations of a walk for each of `NOISES`, if there are some.
    """
    x = sign.values
    margin = _margin(sign, noisy)
    low = x - margin
    if x.size and x.min() == 0:
        # What a ReLU made has no less than 0: a little more than 0 is +1 as well.
        low = np.maximum(low, 0)
    least, most, own = sign.each_positive(low, x + margin, x)
    near = least != most
    if sign.has_levels:  # rounding reaches the next level, and none beyond
        near &= (least <= bits) & (bits <= most)
    result.count += x.size
    result.near += int(near.sum())
    parted = own != bits
    wrong = parted & ~near
    result.flipped_examples |= _examples(parted & near, rows)
    if not wrong.any():
        return
    result.faulty |= _examples(wrong, rows)
    distance = np.where(wrong, np.abs(sign.shifted(x)), -1)
    farthest = np.unravel_index(np.argmax(distance), x.shape)
    far, reach = float(distance[farthest]), float(margin[farthest[-1]])
    result.worst = max(result.worst, far / max(float(_sizes(x)[farthest[-1]]), 1e-30))
    result.fault = result.fault or (
        f"the first sign to differ is that of layer {sign.label!r}, whose input there "
        f"is {far:.3g} from 0, while rounding reaches {reach:.3g}; the fault lies "
        f"{between}"
    )


# The largest difference of numbers that are linear in others, and how well it tells
# where they are 0, each as a fraction of the largest number.
_LINEAR, _CROSSING = 1e-4, 1e-3


def compare_thresholds(
    sign: Sign, still: ConstantSigns, between: str, rows: list[int], result: CutResult
) -> None:
    """Compares thresholds that no example passes, as far as they are known.

    Where the pre-activations of both forms are linear in each other, they are 0 at the
    same. Of whole numbers a threshold may be anywhere between two of them.

    Arguments:
        sign: The pre-activations of the reference.
        still: The other form.
        between: Where a fault would lie, for the message.
        rows: The numbers of the examples.
        result: Is told what was found.
    """
    own = sign.shifted(sign.values)
    own = own.reshape(-1, own.shape[-1]).astype(float)
    if len(own) != len(still.distances):
        return
    for channel, theirs in zip(still.channels, still.distances.T, strict=True):
        mine = own[:, channel]
        off, largest = _crossing(mine, theirs), np.abs(mine).max()
        numbers = np.diff(np.unique(mine))
        apart = numbers[numbers > MARGIN * largest].min(initial=np.inf)
        if abs(off) <= (apart if np.isfinite(apart) else 0) / 2 + _CROSSING * largest:
            continue
        result.faulty |= set(rows)
        result.worst = max(result.worst, abs(off) / largest)
        result.fault = result.fault or (
            f"the threshold of layer {sign.label!r} differs by {abs(off):.3g} in "
            f"channel {channel}, whose largest number is {largest:.3g}; no example "
            f"passes it, and the fault lies {between}"
        )


def _crossing(mine: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the number at which others, linear in it, are 0; 0 if that is unknown."""
    (own, spread), (other, size) = ((x.mean(), np.ptp(x)) for x in (mine, theirs))
    if not (spread > 1e-2 * np.abs(mine).max() and 0 < size < np.inf):
        return 0.0
    centered = mine - own
    slope = float((centered * (theirs - other)).sum() / (centered**2).sum())
    away = np.abs(theirs - other - slope * centered).max()
    return own - other / slope if slope > 0 and away <= _LINEAR * size else 0.0


def _is_of_sums(call: Call, made: Mapping[int, Call]) -> bool:
    """Whether what a call reads is made of sums, or of an input, number by number.

    Or by pools: two forms of it that rise with each other do so on both sides of 0.

    Arguments:
        call: Is or starts with a sign.
        made: The calls of its model, by the id of what they make.
    """
    before = made.get(id(call.first_input))
    while before is not None:
        layer = before.layer
        known, activation = traits(type(layer)), getattr(layer, "activation", None)
        if activation is not None and not function_traits(activation).elementwise:
            return False
        if kernels_of(layer) is not None:
            return True
        passes = known.affine, known.idle, known.keeps, known.pool, known.elementwise
        if not any((*passes, known.norm == "batch")) or len(before.reads) > 1:
            return False
        before = made.get(id(before.first_input))
    return True


def _margin(sign: Sign, noisy: Sequence[np.ndarray]) -> np.ndarray:
    """Returns how far rounding reaches in each channel, (C,)."""
    sizes = _sizes(sign.values)
    threshold = np.abs(sign.shifted(np.zeros_like(sign.values[:1])))
    sizes = np.maximum(sizes, threshold.reshape(-1, threshold.shape[-1]).max(axis=0))
    reach = MARGIN * sizes + rounding_of(sign.values, noisy)
    return reach.astype(np.float32)


def _sizes(x: np.ndarray) -> np.ndarray:
    """Returns the largest magnitude of each channel, (C,)."""
    return np.abs(x).reshape(-1, x.shape[-1]).max(axis=0, initial=0)


def compare_values(
    mine: np.ndarray,
    theirs: np.ndarray,
    tolerance: float,
    what: str,
    rows: list[int],
    result: CutResult,
    noisy: Sequence[np.ndarray] = (),
) -> None:
    """Compares numbers per channel, by how far those of the channel vary.

    Beside a large bias, rounding reaches a fraction of the largest number at least.

    Arguments:
        mine: Those of the reference.
        theirs: Those of the other form.
        tolerance: Allowed difference, relative to how far the numbers of a channel are
            apart, but to no more than the largest.
        what: What differs, for the message.
        rows: The numbers of the examples.
        result: Is told what was found.
        noisy: Those of the reference in a walk for each of `NOISES`, if there are some.
    """
    channels = mine.shape[-1] if mine.ndim > 1 else 1
    first, second = (
        np.reshape(x, (len(rows), -1, channels)).astype(float) for x in (mine, theirs)
    )
    finite = np.where(np.isfinite(first), first, 0)
    sizes = np.abs(finite).max(axis=(0, 1), initial=0)
    apart = np.minimum(np.ptp(finite, axis=(0, 1)), sizes) if finite.size else sizes
    if len(set(rows)) * first.shape[1] == 1:  # a single number, which varies somehow
        apart = sizes
    allowed = np.maximum(tolerance * apart, min(tolerance, MARGIN) * sizes)
    floor = rounding_of(first, [np.reshape(x, first.shape) for x in noisy])
    with np.errstate(invalid="ignore"):
        away = np.abs(first - second)
    away[(first == second) | (np.isnan(first) & np.isnan(second))] = 0
    away[np.isnan(away)] = np.inf
    wrong = away > allowed + floor
    least = _NOISE * sizes.max(initial=0)
    relative = away / np.maximum(sizes, least if least else 1.0)
    result.worst = max(result.worst, float(relative.max(initial=0)))
    result.count += mine.size
    if wrong.any():
        result.faulty |= _examples(wrong, rows)
        worst = np.unravel_index(np.argmax(np.where(wrong, relative, -1)), away.shape)
        result.fault = result.fault or (
            f"{what}, by {away[worst]:.3g} in channel {worst[-1]}, whose largest "
            f"number is {sizes[worst[-1]]:.3g}"
        )


def _examples(where: np.ndarray, rows: list[int]) -> set[int]:
    which = np.flatnonzero(where.reshape(len(rows), -1).any(axis=1))
    return {rows[i] for i in which}


def _named(origins: Collection[str], order: dict[str, int]) -> str:
    names = sorted(origins, key=lambda label: order.get(label, -1))[-3:]
    if not names:
        return "the input"
    return " and ".join(f"layer {name!r}" for name in names)
