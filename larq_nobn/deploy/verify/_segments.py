"""Compares two forms of a network segment by segment.

A sign turns a rounding error of 1e-7 into a jump from -1 to +1, so two correct forms of
one network may differ a lot from end to end. A network is therefore cut at its signs,
at ternary signs, and where it compares numbers, as in `x > 0`. A segment leads from
signs and inputs to the next pre-activations and outputs. The reference computes each
segment from the values that the other form itself had at its start, so nothing is
amplified: where rounding decides a sign, the next segment starts from the other form's
sign, and must still agree.
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

# A sign may be decided by rounding if its pre-activation is below this fraction of the
# largest one of its channel: 84 float32 epsilons. Sums of n floats in another order
# differ by about sqrt(n) epsilons of their magnitude (48 for the 2304 terms of a 3x3
# convolution over 256 channels). A wrong weight changes pre-activations by fractions of
# 1e-2 and more.
MARGIN = 1e-5
# A channel of small numbers may be a sum of large terms, which rounds as these do. More
# runs measure how far: each changes every constant at random by about this fraction of
# itself, 16 float32 epsilons. The changes go to one side and to the other, since a ReLU
# may hide one of them, and come from two draws, since one may cancel by chance. Numbers
# may differ by `_TIMES` times what such a run moves them, but by no more than the same
# fraction of the largest number of all channels: a step that jumps there says nothing
# of rounding. The last two runs have `_FARTHER` times the noise. A channel that they
# move `_BY_FAR` times further does not jump, so its movement counts in full, however
# small the other channels are, since these may cancel, too.
_NOISE, _FARTHER = 2e-6, 64
_NEAR = (_NOISE, -_NOISE, 1.25 * _NOISE, -1.25 * _NOISE)
NOISES = (*_NEAR, _FARTHER * _NEAR[0], _FARTHER * _NEAR[2])
_TIMES, _BY_FAR = 4, 16
# The inputs of networks are usually no larger than this.
_USUAL = 300.0
# Processors may turn smaller numbers than this, such as a softmax's, into 0.
_NOTHING = 1e-30


@dataclass
class CutResult:
    """The agreement of two forms at one sign or output.

    Attributes:
        name: The label of the sign, or the name of the output.
        count: The number of numbers that were compared.
        near: How many of these are pre-activations within rounding of the threshold.
        flipped_examples: The examples in which rounding decides some sign differently.
        worst: The largest difference, relative to the largest number of its channel.
        fault: What differs by more than rounding; '' if nothing does.
        faulty: The examples in which something does.
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
        examples: The number of examples that were compared.
        outputs: The outputs of the other form.
        results: By kind and name, in the order of the network, signs before outputs.
    """

    examples: int
    outputs: list[np.ndarray] = field(default_factory=list)
    results: dict[tuple[str, str], CutResult] = field(default_factory=dict)

    def result(self, kind: str, name: str) -> CutResult:
        """Returns the result at a sign, at an output, or at another cut."""
        return self.results.setdefault((kind, name), CutResult(name))

    @property
    def finding(self) -> str:
        """The first fault in the order of the network; '' if there is none."""
        return next((p.fault for p in self.results.values() if p.fault), "")

    @property
    def faulty(self) -> list[int]:
        """The examples in which some segment differs."""
        return sorted(set().union(*(p.faulty for p in self.results.values())))

    @property
    def ties(self) -> list[dict[str, Any]]:
        """The signs that rounding decides; the most frequent come first."""
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
    """Returns how far rounding moves each channel beyond its `MARGIN`, (C,).

    `noisy` has the same `values` from a run for each of `NOISES`, or is empty.
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
    """Yields the indices of examples to compare at once, in order.

    Examples of far larger numbers are apart, since they would widen the tolerance.
    """
    for _, alike in groupby(range(len(examples[0])), partial(_order_of, examples)):
        part = list(alike)
        for start in range(0, len(part), most):
            yield part[start : start + most]


def _order_of(examples: Sequence[np.ndarray], row: int) -> int:
    """Returns by how many orders of magnitude an example exceeds usual pixels."""
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
    """Compares the signs of pre-activations with those of another form.

    Arguments:
        x: The pre-activations of the reference, for the examples `rows`.
        is_positive: Returns where the sign of numbers is +1: above 0, or from 0 on.
        bits: Where the other form has +1.
        between: Where a fault would lie, for the message.
        noisy: The pre-activations of a run for each of `NOISES`, or nothing.
        rectified: Whether their maker, such as a ReLU, never gives numbers below 0.
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


# Fractions of the largest number: by how much linear numbers may miss their line, and
# the precision of the point where they are 0.
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

    If the pre-activations of both forms are linear in each other, their zeros are
    comparable. Between whole numbers, a threshold may lie anywhere between two of them.

    `numbers` is how far the pre-activations of the other form are above the threshold,
    times any positive number per channel. The rest is as in `compare_sign`.
    """
    arrays = x.astype(float), numbers, bits
    own, others, columns = (array.reshape(-1, x.shape[-1]) for array in arrays)
    if len(others) != len(own):
        return
    constant = np.flatnonzero(columns.all(axis=0) | ~columns.any(axis=0))
    mine, theirs = own[:, constant], others[:, constant].astype(float)
    off, largest = np.abs(_crossings(mine, theirs)), np.abs(mine).max(axis=0)
    for place in np.flatnonzero(off > _CROSSING * largest):
        # Two points always have a line through them, so there must be three.
        steps = np.diff(np.sort(theirs[:, place]))
        if (steps > _LINEAR * np.ptp(theirs[:, place])).sum() < 2:
            continue
        steps = np.diff(np.sort(mine[:, place]))
        apart = steps[steps > MARGIN * largest[place]].min(initial=np.inf)
        if np.isfinite(apart) and off[place] <= apart / 2 + _CROSSING * largest[place]:
            continue
        result.faulty |= set(rows)
        result.worst = max(result.worst, float(off[place] / largest[place]))
        result.fault = result.fault or (
            f"the threshold of layer {result.name!r} differs by {off[place]:.3g} in "
            f"channel {constant[place]}, whose largest number is {largest[place]:.3g}; "
            f"no example passes it, and the fault lies {between}"
        )


@np.errstate(divide="ignore", invalid="ignore")
def _crossings(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Returns, per channel, the number of `mine` at which `theirs`, linear in it, is 0.

    It is 0 where that is unknown.
    """
    (own, spread), (other, size) = (
        (x.mean(axis=0), np.ptp(x, axis=0)) for x in (mine, theirs)
    )
    known = (spread > 1e-2 * np.abs(mine).max(axis=0)) & (size > 0) & (size < np.inf)
    centered = mine - own
    slope = (centered * (theirs - other)).sum(axis=0) / (centered**2).sum(axis=0)
    away = np.abs(theirs - other - slope * centered).max(axis=0)
    known &= (slope > 0) & (away <= _LINEAR * size)
    return np.where(known, own - other / slope, 0)


@np.errstate(invalid="ignore")
def _moves(mine: np.ndarray, noisy: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether rounding alone decides an output, such as a softmax of huge logits."""
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
    """Compares numbers per channel, relative to the spread of their channel.

    Beside a large bias, at least a fraction of the largest number is allowed.

    Arguments:
        mine, theirs: The numbers of the reference, and of the other form.
        tolerance: Allowed difference, relative to the spread of a channel's numbers,
            or to their largest magnitude if that is less.
        what: What differs, for the message.
        noisy: The reference's numbers in a run for each of `NOISES`, or nothing.
    """
    channels = mine.shape[-1] if mine.ndim > 1 else 1
    first, second = (
        np.reshape(x, (len(rows), -1, channels)).astype(float) for x in (mine, theirs)
    )
    finite = np.where(np.isfinite(first), first, 0)
    apart = sizes = _sizes(finite)
    if first[..., 0].size > 1:  # a single number has no spread
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
    """The values of a form of a network for some examples.

    Attributes:
        outputs: One array per output.
        values: The output of each cut, (examples, ...).
        numbers: The pre-activations of cuts, by the cuts' places, where known.
    """

    outputs: list[np.ndarray]
    values: list[np.ndarray]
    numbers: Mapping[int, np.ndarray]


def recorder(form: Form, signs: Sequence[Cut]) -> Callable[..., Recording]:
    """Returns a function that runs a form on examples, and records it at some signs.

    Values that it is given for the signs replace these. With noise, its result shows
    how far numbers round.
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
    """Compares a form with what `read` records of another one, cut at the same signs.

    Outputs may differ by `tolerance`, as in `compare_values`.
    """
    count, labels = len(examples[0]), labels_of(signs)
    segments, batches = Segments(count), []
    own = recorder(form, signs)

    def note(ours: Sequence[Recording], other: Recording, rows: list[int]) -> None:
        """Compares some examples; all of `ours` but the first were run with noise."""
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
        # Batches are whole, however examples are folded into them.
        rows = rows + rows[-1:] * (-len(rows) % io.batch_size)
        taken = [array[rows] for array in examples]
        is_far = _order_of(examples, rows[0]) > 0
        other = read(taken)
        batches.append([output[: len({*rows})] for output in other.outputs])
        pairs = zip(signs, other.values, strict=True)
        fed = [_fed(*pair, len(rows)) for pair in pairs]
        results = deepcopy(segments.results)
        ours = [own(taken, fed)]
        note(ours, other, rows)
        if {*segments.faulty} & {*rows}:
            # The comparison with noise replaces the one without.
            segments.results = results
            ours += [own(taken, fed, noise) for noise in NOISES]
            note(ours, other, rows)
    segments.outputs = [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]
    return segments


def _compare_sum(
    terms: np.ndarray, made: np.ndarray, before: str, rows: list[int], result: CutResult
) -> None:
    """Compares a sum with that of another form; it may round as its terms do."""
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
    """Returns a label for each sign: its layer, and a number after the first."""
    names = [sign.layer for sign in signs]
    numbers = [names[: place + 1].count(name) for place, name in enumerate(names)]
    pairs = zip(names, numbers, strict=True)
    return [name if n == 1 else f"{name} (sign {n})" for name, n in pairs]


def _difference(sign: Cut, rest: Iterator[np.ndarray]) -> np.ndarray:
    """Returns the pre-activations of a sign: one array, or a difference of two."""
    first, *second = values = [next(rest) for _ in sign.of]
    if isinstance(sign, TracedSum):
        return sign.terms(values)
    difference = first - second[0] if second else first
    return np.broadcast_to(difference, sign.value.shape).astype(np.float32)


def by_example(values: np.ndarray, count: int) -> np.ndarray:
    """Moves the examples to the first axis, and the rows of each to the second."""
    if len(values) == count:
        return values
    return values.reshape(count, -1, *values.shape[1:])


def _fed(sign: Cut, made: np.ndarray, count: int) -> np.ndarray:
    shape = sign.value.shape[1:]
    values = sign.rounded(made).reshape(-1, *shape)
    values = values.astype(sign.value.dtype.as_numpy_dtype)
    return by_example(values, count)


# --- from end to end: this is information only, as one sign within rounding of 0 may
# change all that follows; the comparison segment by segment proves a conversion

# Below these fractions a warning follows: of examples that are equal within tolerance,
# and of examples with the same top class.
EXACT, TOP1 = 0.9, 0.99
# A smaller fraction of ties among a layer's signs occurs by chance in any network.
_SHARE = 1e-3
_MOST = 3


def agreement(
    reference: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    tolerance: float,
    segments: Segments,
) -> dict[str, Any]:
    """Returns how far the outputs of two forms agree, as plain JSON types.

    Their comparison by segments has found no fault. So in examples that differ by more
    than `tolerance`, rounding has decided a sign.
    """
    pairs = zip(reference, other, strict=True)
    worst = [differences(*pair) for pair in pairs]
    absolute, relative = (np.max(each, axis=0) for each in zip(*worst, strict=True))
    examples = len(relative)
    # `not <=` rather than `>`: a NaN differs.
    differing = int((~(relative <= tolerance)).sum())
    return {
        "examples": examples,
        "exact_share": 1 - differing / examples,
        "explained": differing,
        "unexplained": 0,
        "worst_abs": float(absolute.max()),
        "worst_rel": float(relative.max()),
        "top1_agreement": top1_agreement(reference, other),
        "ties": segments.ties,
        "segments": segments.to_dict(),
    }


def differences(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the largest difference of each example, absolute and relative.

    Relative differences are divided by the example's largest number, or by the median
    of all examples' largest numbers if that is greater.
    """
    first, second = (np.reshape(y, (len(y), -1)) for y in (first, second))
    worst = np.abs(first.astype(np.float64) - second).max(axis=1)
    magnitude = np.abs(first).max(axis=1)
    magnitude = np.maximum(magnitude, np.median(magnitude))
    return worst, worst / np.where(magnitude > 0, magnitude, 1.0)


def top1_agreement(
    reference: Sequence[np.ndarray], other: Sequence[np.ndarray]
) -> float:
    """Returns the fraction of examples with the same largest class in every output.

    Outputs of another shape than (examples, classes) count only if there are no others,
    and then at every position.
    """
    pairs = list(zip(reference, other, strict=True))
    scores = [p for p in pairs if p[0].ndim == 2 and p[0].shape[1] > 1] or pairs
    same = [_top1(first) == _top1(second) for first, second in scores]
    return float(np.min([part.mean(axis=1) for part in same], axis=0).mean())


def _top1(output: np.ndarray) -> np.ndarray:
    classes = output.shape[-1] if output.ndim > 1 else 1
    return np.argmax(output.reshape(len(output), -1, classes), axis=-1)


def tie_warnings(prepared: dict[str, Any], file: dict[str, Any]) -> list[str]:
    """Returns a warning for each comparison in which rounding decides too much."""
    warnings = []
    for names, part in (
        ("the optimized form of the model and the given one", prepared),
        ("the file and the optimized form of the model", file),
    ):
        ties = [row for row in part.get("ties", ()) if row["share"] >= _SHARE]
        differ = part["top1_agreement"] < TOP1
        said = (
            f"of {part['examples']} examples, {names} compute the "
            f"same in {part['exact_share']:.1%}, and have the same top class in "
            f"{part['top1_agreement']:.1%}."
        )
        if not ties and differ:
            warnings.append(f"Small differences decide outputs: {said}")
        if ties and (differ or part["exact_share"] < EXACT):
            rows = [f"layer {x['layer']!r} ({x['share']:.2%} of them)" for x in ties]
            if len(rows) > _MOST:
                rows = [*rows[:_MOST], f"{len(rows) - _MOST} more"]
            *first, last = rows
            listed = f"{', '.join(first)} and {last}" if first else last
            warnings.append(
                f"Rounding decides signs: {said} Inputs that should be 0 stand before "
                f"the sign of {listed}. Give these signs a shift (input_quantizer="
                "'rsign'), or the layers before them a bias or batch norm; or evaluate "
                "and train on deploy.prepared(model), which computes what the file "
                "computes."
            )
    return warnings
