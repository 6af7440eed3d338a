"""Tells rounding from faults when two forms of a binary network disagree.

A sign turns a rounding error of 1e-7 into a jump from -1 to +1, so two correct forms of
one network may differ a lot on some example. Here such a difference counts as explained
only if, at the first sign where the two part, every position that parts lies within
rounding of zero. Anything else is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

# How close to 0 a sign's input must be for its sign to be a matter of rounding, as a
# share of the largest input of that sign for that example: 84 float32 epsilons. Sums of
# n floats in another order differ by about sqrt(n) epsilons of their magnitude (48 for
# the 2304 terms of a 3x3 convolution over 256 channels), and differences of earlier
# layers add up. A wrong weight moves inputs by shares of 1e-2 and more. Where all that
# an example has is noise, as x - mean(x) of a flat image is, the largest says nothing
# of the terms of its sum: then the mean of the examples' largest counts.
MARGIN = 1e-5
_GROUP = 16


class SignPair(NamedTuple):
    """One sign of a network as its two forms compute it, example by example."""

    label: str
    reference: np.ndarray  # bool, (examples, ...)
    other: np.ndarray
    distance: np.ndarray  # of the sign's input from 0


class Cause(NamedTuple):
    """Why an example differs.

    Attributes:
        sign: The first sign to differ; empty if none does.
        tied: The share of its inputs that are within rounding of 0.
        fault: What was found that is no matter of rounding; empty if all is.
    """

    sign: str
    tied: float
    fault: str


@dataclass(frozen=True)
class Agreement:
    """How far two forms of a network agree.

    Attributes:
        examples: How many were compared.
        exact_share: The share that agrees within tolerance.
        explained: Examples that differ because of a sign within rounding of zero.
        unexplained: Those that differ for no such reason.
        worst_abs: Largest difference of an output, over all examples.
        worst_rel: Largest difference relative to the output's magnitude.
        top1_agreement: The share of examples with the same largest output; of several
            outputs, all that are scores of classes must agree.
        ties: The signs that explain examples, those of most examples first: `layer`,
            `examples` (how many it is the first to differ in) and `share` (of its
            inputs that are within rounding of 0, in the mean of these).
    """

    examples: int
    exact_share: float
    explained: int
    unexplained: int
    worst_abs: float
    worst_rel: float
    top1_agreement: float
    ties: list[dict[str, Any]] = field(default_factory=list)
    finding: str = field(default="", repr=False)
    unexplained_examples: tuple[int, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers as plain JSON types."""
        numbers = asdict(self)
        del numbers["finding"], numbers["unexplained_examples"]
        return numbers


def agreement(
    reference: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    tolerance: float,
    signs: Callable[[np.ndarray], Iterable[SignPair]],
) -> Agreement:
    """Compares the outputs of two forms, and explains where they differ.

    Arguments:
        reference: Outputs of one form, (examples, ...) each.
        other: Outputs of the other.
        tolerance: Allowed difference, relative to the larger of the example's largest
            output and its mean over all examples; the mean keeps an output that
            happens to be near 0 from asking for the impossible.
        signs: Given the indices of examples, yields their signs in the order of the
            network; called only if some differ. Behind those that do, it is given
            others, which say how large the inputs of a sign are.
    """
    pairs = list(zip(reference, other, strict=True))
    worst = [differences(*pair) for pair in pairs]
    absolute, relative = (np.max(parts, axis=0) for parts in zip(*worst, strict=True))
    # `not <=` rather than `>`: a NaN differs.
    differing = np.flatnonzero(~(relative <= tolerance))
    causes: list[Cause] = []
    others = np.setdiff1d(np.arange(len(relative)), differing)
    # In small groups: the signs of many examples do not fit into memory at once.
    for start in range(0, len(differing), _GROUP):
        group = differing[start : start + _GROUP]
        rows = np.concatenate([group, others])[:_GROUP]
        causes += explain(len(group), signs(rows))
    of_each = zip(differing.tolist(), causes, strict=True)
    left = {example: cause.fault for example, cause in of_each if cause.fault}
    examples = len(relative)
    return Agreement(
        examples=examples,
        exact_share=1 - len(differing) / examples,
        explained=len(differing) - len(left),
        unexplained=len(left),
        worst_abs=float(absolute.max()),
        worst_rel=float(relative.max()),
        top1_agreement=top1_agreement(reference, other),
        ties=_ties(causes),
        finding=next(iter(left.values()), ""),
        unexplained_examples=tuple(left),
    )


def differences(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest difference of an output for every example, absolute and relative.

    Relative to the larger of the example's largest number and the mean of all examples'
    largest.
    """
    first, second = (np.reshape(y, (len(y), -1)) for y in (first, second))
    worst = np.abs(first.astype(np.float64) - second).max(axis=1)
    magnitude = np.abs(first).max(axis=1)
    magnitude = np.maximum(magnitude, magnitude.mean())
    return worst, worst / np.where(magnitude > 0, magnitude, 1.0)


def top1_agreement(
    reference: Sequence[np.ndarray], other: Sequence[np.ndarray]
) -> float:
    """Returns the share of examples with the same largest class in every output.

    Outputs that are no scores of classes, (examples, classes), count only if none is;
    of those, every position counts.
    """
    pairs = list(zip(reference, other, strict=True))
    scores = [p for p in pairs if p[0].ndim == 2 and p[0].shape[1] > 1] or pairs
    same = [_top1(first) == _top1(second) for first, second in scores]
    return float(np.min([part.mean(axis=1) for part in same], axis=0).mean())


def _top1(output: np.ndarray) -> np.ndarray:
    classes = output.shape[-1] if output.ndim > 1 else 1
    return np.argmax(output.reshape(len(output), -1, classes), axis=-1)


def explain(examples: int, signs: Iterable[SignPair]) -> list[Cause]:
    """Returns for the first examples at which sign each parts, and what is wrong."""
    nowhere = "no sign differs"
    causes: dict[int, Cause] = {}
    before = "the input"
    for pair in signs:
        usual = float(pair.distance.reshape(len(pair.distance), -1).max(axis=1).mean())
        for example in set(range(examples)) - set(causes):
            parted = pair.reference[example] != pair.other[example]
            if parted.any():
                distance = pair.distance[example]
                farthest = float(distance[parted].max())
                margin = MARGIN * max(float(distance.max()), usual)
                fault = ""
                if not farthest <= margin:
                    fault = (
                        f"the first sign to differ is that of layer {pair.label!r}, "
                        f"whose input there is {farthest:.3g} from 0, while rounding "
                        f"reaches {margin:.3g}; the fault lies between {before} and it"
                    )
                tied = float((distance <= margin).mean())
                causes[example] = Cause(pair.label, tied, fault)
        before = f"layer {pair.label!r}"
        nowhere = f"no sign differs, so the fault lies behind that of {before}"
    return [causes.get(i, Cause("", 0.0, nowhere)) for i in range(examples)]


def _ties(causes: Sequence[Cause]) -> list[dict[str, Any]]:
    shares: dict[str, list[float]] = {}
    for cause in causes:
        if not cause.fault:
            shares.setdefault(cause.sign, []).append(cause.tied)
    found = [
        {"layer": sign, "examples": len(tied), "share": float(np.mean(tied))}
        for sign, tied in shares.items()
    ]
    return sorted(found, key=lambda row: -row["examples"])
