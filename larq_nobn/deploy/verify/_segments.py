"""Compares two forms of a network segment by segment.

A sign turns a rounding error of 1e-7 into a jump from -1 to +1, so two correct forms of
one network may differ a lot from end to end. A network is therefore cut at its signs,
at ternary signs, and where it compares numbers, as in `x > 0`.
Each segment, from the signs and inputs that it reads to the next pre-activations and
outputs, is computed by the reference from the values that the other form itself had
there. So nothing is amplified: a sign that rounding decides changes what is fed
forward, and excuses nothing after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ..._progress import step
from ..lite import _converter
from ..trace._form import Form
from ..trace._signs import TracedSign, TracedSum

# How close to 0 a pre-activation must be for its sign to be a matter of rounding, as a
# fraction of the largest pre-activation of its channel: 84 float32 epsilons. Sums of n
# floats in another order differ by about sqrt(n) epsilons of their magnitude (48 for
# the 2304 terms of a 3x3 convolution over 256 channels). A wrong weight changes
# pre-activations by fractions of 1e-2 and more.
MARGIN = 1e-5
# A channel of small numbers may be made of large terms, whose sums round as these do.
# How much that is, more runs tell, in which every constant is off by about this
# fraction of itself, 16 float32 epsilons, at random: to one side and to the other, of
# which a ReLU may show no more than one, and by draws of two kinds, of which one may
# cancel by chance. Numbers may differ by a few times what they are off by there, but by
# no more than the same fraction of the largest number of all channels: a step that
# turns there says nothing of rounding. What another walk, off by 64 times as much,
# moves further by far is no step, and counts whatever the other channels are: all of
# them may cancel.
_NOISE, _FARTHER = 2e-6, 64
_NEAR = (_NOISE, -_NOISE, 1.25 * _NOISE, -1.25 * _NOISE)
NOISES = (*_NEAR, _FARTHER * _NEAR[0], _FARTHER * _NEAR[2])
_TIMES, _BY_FAR = 4, 16
# No larger is what a network sees.
_USUAL = 300.0
# Of smaller numbers, as a softmax gives some, processors make 0.
_NOTHING = 1e-30


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


def rounding_of(values: np.ndarray, noisy: Sequence[np.ndarray]) -> np.ndarray:
    """How far rounding reaches in each channel beyond that of its own numbers, (C,).

    `noisy` are the same `values` of a walk for each of `NOISES`, if there are some.
    """
    sizes = _sizes(values)
    if not noisy:
        return np.zeros_like(sizes)
    with np.errstate(invalid="ignore"):
        apart = [np.abs(np.asarray(walked, float) - values) for walked in noisy]
    reached = [_sizes(np.where(np.isfinite(x), x, 0)) for x in apart]
    near, far = reached[: len(_NEAR)], reached[len(_NEAR) :]
    little, much = np.max(near, axis=0), np.max(far, axis=0)
    largest = np.minimum(_TIMES * little, _NOISE * sizes.max(initial=0))
    smooth = np.minimum(little, much / _FARTHER)
    return np.where(much >= _BY_FAR * little, np.maximum(largest, smooth), largest)


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


def compare_sign(
    x: np.ndarray,
    is_positive: Callable[[Any], Any],
    bits: np.ndarray,
    between: str,
    rows: list[int],
    result: CutResult,
    noisy: Sequence[np.ndarray] = (),
    rectified: bool = False,
) -> None:
    """Compares the signs of pre-activations with those that another form has there.

    Arguments:
        x: Those of the reference, of the examples `rows`.
        is_positive: Whether the sign of numbers is +1: of those above 0, or from it on.
        bits: Where the other form has +1.
        between: Where a fault would lie, for the message.
        noisy: The pre-activations of a walk for each of `NOISES`, if there are some.
        rectified: Whether what makes them, as a ReLU, gives none below 0.
    """
    sizes = _sizes(x)
    margin = (MARGIN * sizes + rounding_of(x, noisy)).astype(np.float32)
    low = x - margin
    if rectified:
        low = np.maximum(low, 0)
    least, most, own = map(is_positive, (low, x + margin, x))
    near = least != most
    result.count += x.size // len(rows) * len({*rows})
    result.near += int(near.sum())
    parted = own != bits
    wrong = parted & ~near
    result.flipped_examples |= _examples(parted & near, rows)
    if not wrong.any():
        return
    result.faulty |= _examples(wrong, rows)
    distance = np.where(wrong, np.abs(x), -1)
    farthest = np.unravel_index(np.argmax(distance), x.shape)
    far, reach = float(distance[farthest]), float(margin[farthest[-1]])
    result.worst = max(result.worst, far / max(float(sizes[farthest[-1]]), _NOTHING))
    result.fault = result.fault or (
        f"the first sign to differ is that of layer {result.name!r}, whose input there "
        f"is {far:.3g} from 0, while rounding reaches {reach:.3g}; the fault lies "
        f"{between}"
    )


# The largest difference of numbers that are linear in others, and how well it tells
# where they are 0, each as a fraction of the largest number.
_LINEAR, _CROSSING = 1e-4, 1e-3


def compare_thresholds(
    x: np.ndarray,
    bits: np.ndarray,
    numbers: np.ndarray,
    between: str,
    rows: list[int],
    result: CutResult,
) -> None:
    """Compares thresholds that no example passes, as far as they are known.

    Where the pre-activations of both forms are linear in each other, they are 0 at the
    same. Of whole numbers a threshold may be anywhere between two of them.

    `numbers` are how far the pre-activations of the other form are above the threshold,
    times any positive number per channel. The rest is as in `compare_sign`.
    """
    arrays = x.astype(float), numbers, bits
    own, others, columns = (array.reshape(-1, x.shape[-1]) for array in arrays)
    if len(others) != len(own):
        return
    constant = np.flatnonzero(columns.all(axis=0) | ~columns.any(axis=0))
    mine, theirs = own[:, constant], others[:, constant].astype(float)
    off, largest = np.abs(_crossings(mine, theirs)), np.abs(mine).max(axis=0)
    steps = np.diff(np.sort(mine, axis=0), axis=0)
    steps[steps <= MARGIN * largest] = np.inf
    apart = steps.min(axis=0, initial=np.inf)
    allowed = np.where(np.isfinite(apart), apart, 0) / 2 + _CROSSING * largest
    for place in np.flatnonzero(off > allowed):
        result.faulty |= set(rows)
        result.worst = max(result.worst, float(off[place] / largest[place]))
        result.fault = result.fault or (
            f"the threshold of layer {result.name!r} differs by {off[place]:.3g} in "
            f"channel {constant[place]}, whose largest number is {largest[place]:.3g}; "
            f"no example passes it, and the fault lies {between}"
        )


@np.errstate(divide="ignore", invalid="ignore")
def _crossings(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Returns the number of each channel at which others, linear in it, are 0.

    It is 0 where that is unknown.
    """
    (own, spread), (other, size) = (
        (x.mean(axis=0), np.ptp(x, axis=0)) for x in (mine, theirs)
    )
    known = (spread > 1e-2 * np.abs(mine).max(axis=0)) & (size > 0) & (size < np.inf)
    # Through two points there is always a line.
    steps = np.diff(np.sort(theirs, axis=0), axis=0) > _LINEAR * size
    known &= steps.sum(axis=0) >= 2
    centered = mine - own
    slope = (centered * (theirs - other)).sum(axis=0) / (centered**2).sum(axis=0)
    away = np.abs(theirs - other - slope * centered).max(axis=0)
    known &= (slope > 0) & (away <= _LINEAR * size)
    return np.where(known, own - other / slope, 0)


@np.errstate(invalid="ignore")
def _moves(mine: np.ndarray, noisy: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether rounding alone decides an output, as it does a softmax of huge logits."""
    near = noisy[: len(_NEAR)]
    away = max((np.abs(walked - mine).max(initial=0) for walked in near), default=0.0)
    return not away <= tolerance * np.abs(mine).max(initial=0)


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
        mine, theirs: Those of the reference, and of the other form.
        tolerance: Allowed difference, relative to how far the numbers of a channel are
            apart, but to no more than the largest.
        what: What differs, for the message.
        noisy: Those of the reference in a walk for each of `NOISES`, if there are some.
    """
    channels = mine.shape[-1] if mine.ndim > 1 else 1
    first, second = (
        np.reshape(x, (len(rows), -1, channels)).astype(float) for x in (mine, theirs)
    )
    finite = np.where(np.isfinite(first), first, 0)
    apart = sizes = _sizes(finite)
    if first[..., 0].size > 1:  # a single number varies somehow
        apart = np.minimum(np.ptp(finite, axis=(0, 1)), sizes)
    allowed = np.maximum(tolerance * apart, min(tolerance, MARGIN) * sizes)
    floor = rounding_of(first, [np.reshape(x, first.shape) for x in noisy])
    with np.errstate(invalid="ignore"):
        away = np.abs(first - second)
    away[(first == second) | (np.isnan(first) & np.isnan(second))] = 0
    away[np.isnan(away)] = np.inf
    wrong = away > allowed + floor + _NOTHING
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


_GROUP = 16

Examples = Sequence[np.ndarray]
Cut = TracedSign | TracedSum


class Recording(NamedTuple):
    """What a form of a network has for some examples.

    Attributes:
        outputs: One array per output.
        values: What each cut makes, (examples, ...).
        numbers: Of what it is taken, by its place among the cuts, as far as known.
    """

    outputs: list[np.ndarray]
    values: list[np.ndarray]
    numbers: Mapping[int, np.ndarray]


def recorder(form: Form, signs: Sequence[Cut]) -> Callable[..., Recording]:
    """Returns what computes a form for examples, and shows it at some signs.

    Where it is given values of the signs, it does not compute these. With noise, it
    tells how far numbers round.
    """
    values = [form.tensor_of(sign.value) for sign in signs]
    wanted = [*form.outputs, *values]
    count = len(wanted)
    wanted += [form.tensor_of(tensor) for sign in signs for tensor in sign.of]

    def finish(arrays: list[np.ndarray]) -> list[np.ndarray]:
        rest = iter(arrays[count:])
        return [*arrays[:count], *(_difference(sign, rest) for sign in signs)]

    def read(
        examples: Examples, made: Sequence[np.ndarray] = (), noise: float = 0.0
    ) -> Recording:
        pairs = zip([*form.inputs, *values], [*examples, *made], strict=False)
        arrays = form.run(dict(pairs), wanted, noise, finish)
        outputs, inner = arrays[: len(form.outputs)], arrays[len(form.outputs) :]
        inner = [by_example(x, len(examples[0])) for x in inner]
        return Recording(
            outputs, inner[: len(signs)], dict(enumerate(inner[len(signs) :]))
        )

    return read


def compare(
    form: Form,
    io: _converter.IoSpec,
    signs: Sequence[Cut],
    read: Callable[[Examples], Recording],
    examples: Examples,
    tolerance: float,
) -> Segments:
    """Compares a form with what `read` shows of another one, cut at the same signs.

    Outputs may differ by `tolerance`.
    """
    count, labels = len(examples[0]), labels_of(signs)
    segments, parts = Segments(count), []
    own = recorder(form, signs)

    def note(ours: Sequence[Recording], other: Recording, rows: list[int]) -> None:
        """Compares some examples; others of `ours` than the first have noise."""
        before = "the input"
        for number, (sign, label) in enumerate(zip(signs, labels, strict=True)):
            difference, *walked = (x.numbers[number] for x in ours)
            if isinstance(sign, TracedSum):
                result = segments.result("sum", label)
                _compare_sum(difference, other.values[number], before, rows, result)
                continue
            result = segments.result("sign", label)
            place = f"between {before} and it", rows, result
            for is_above, has in sign.thresholds():
                bits = has(other.values[number]).reshape(difference.shape)
                compare_sign(
                    difference, is_above, bits, *place, walked, sign.is_rectified
                )
                if (numbers := other.numbers.get(number)) is not None:
                    compare_thresholds(difference, bits, numbers, *place)
            before = f"layer {label!r}"
        what = f"no sign differs, so the fault lies after that of {before}: output "
        ends = zip(other.outputs, *(x.outputs for x in ours), strict=True)
        for name, (theirs, mine, *noise) in zip(io.outputs, ends, strict=True):
            said, result = f"{what}{name!r} differs", segments.result("output", name)
            if is_far and _moves(mine, noise, tolerance):
                continue
            compare_values(mine, theirs, tolerance, said, rows, result, noise)

    for rows in grouped(examples, _GROUP):
        step("Comparing examples", rows[0], count)
        # In whole batches, or it would matter how examples are folded into them.
        rows = rows + rows[-1:] * (-len(rows) % io.batch_size)
        taken = [array[rows] for array in examples]
        is_far = _order_of(examples, rows[0]) > 0
        other = read(taken)
        parts.append([output[: len({*rows})] for output in other.outputs])
        pairs = zip(signs, other.values, strict=True)
        fed = [_fed(*pair, len(rows)) for pair in pairs]
        results = deepcopy(segments.results)
        ours = [own(taken, fed)]
        note(ours, other, rows)
        if {*segments.faulty} & {*rows}:
            # What noise excuses takes the place of what was noted without it.
            segments.results = results
            ours += [own(taken, fed, noise) for noise in NOISES]
            note(ours, other, rows)
    segments.outputs = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return segments


def _compare_sum(
    terms: np.ndarray, made: np.ndarray, before: str, rows: list[int], result: CutResult
) -> None:
    """Compares a sum with what another form has of it: it rounds as its terms do."""
    total, sizes = terms.sum(axis=-1), np.abs(terms).sum(axis=-1)
    away = np.abs(total - made.reshape(total.shape))
    wrong = away > MARGIN * np.abs(total).max(initial=0) + _NOISE * sizes
    result.count += away.size
    if wrong.any():
        result.faulty |= _examples(wrong, rows)
        result.worst = max(result.worst, float(away[wrong].max()))
        result.fault = result.fault or (
            f"the sum of layer {result.name!r} differs by {away[wrong].max():.3g}, and "
            f"the fault lies after {before}"
        )


def labels_of(signs: Sequence[Cut]) -> list[str]:
    """The names of the layers of signs; of a second one of a layer with its number."""
    names = [sign.layer for sign in signs]
    numbers = [names[: place + 1].count(name) for place, name in enumerate(names)]
    pairs = zip(names, numbers, strict=True)
    return [name if n == 1 else f"{name} (sign {n})" for name, n in pairs]


def _difference(sign: Cut, rest: Iterator[np.ndarray]) -> np.ndarray:
    """Returns the numbers that a sign is of: the next, or the difference of two."""
    first, *second = values = [next(rest) for _ in sign.of]
    if isinstance(sign, TracedSum):
        return sign.terms(values)
    difference = first - second[0] if second else first
    return np.broadcast_to(difference, sign.value.shape).astype(np.float32)


def by_example(values: np.ndarray, count: int) -> np.ndarray:
    """With examples in front; of one with several rows, these come next."""
    if len(values) == count:
        return values
    return values.reshape(count, -1, *values.shape[1:])


def _fed(sign: Cut, made: np.ndarray, count: int) -> np.ndarray:
    shape = sign.value.shape[1:]
    values = sign.rounded(made).reshape(-1, *shape)
    values = values.astype(sign.value.dtype.as_numpy_dtype)
    return by_example(values, count)
