"""Per-channel shifts of which some are still open, and the solving for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np


class Form(NamedTuple):
    """`constant` plus multiples of unknown shifts, for the channels of one stretch.

    Each channel is an equation of its own: a multiple may be 0 in some of them.
    """

    constant: np.ndarray
    terms: Mapping[int, np.ndarray]

    def plus(self, other: Form, weight: np.ndarray) -> Form:
        """This form plus `weight` times another."""
        terms = dict(self.terms)
        for unknown, times in other.terms.items():
            terms[unknown] = _total(terms.get(unknown, 0.0), weight * times)
        constant = self.constant + weight * other.constant
        return Form(constant, {u: t for u, t in terms.items() if np.any(t)})

    def where(self, channels: np.ndarray) -> Form:
        """The same in some channels, and 0 in the others."""
        terms = {u: np.where(channels, t, 0.0) for u, t in self.terms.items()}
        return Form(np.where(channels, self.constant, 0.0), terms)

    def open(self) -> np.ndarray:
        """The channels whose value is not settled."""
        found = np.zeros(len(self.constant), bool)
        for times in self.terms.values():
            found |= times != 0
        return found


# By how much a shift may stand out from those of the other channels.
_LARGER = 256.0

# A shift of all channels of a tensor: stretches of them, as concatenation joins them.
Shift = tuple[Form, ...]


def constant(values: np.ndarray) -> Shift:
    """The shift of known values, one per channel."""
    return (Form(np.asarray(values, np.float64), {}),)


class Unknowns:
    """Shifts that may be chosen, until some condition settles them channel by channel.

    As long as every value wanted is 0, all that is wanted can be had: 0 is a solution.
    """

    def __init__(self) -> None:
        # Of each unknown the channels that are settled, and what they are.
        self._settled: list[np.ndarray] = []
        self._solutions: list[Form] = []

    def new(self, channels: int) -> Shift:
        """A shift of which nothing is settled."""
        self._settled.append(np.zeros(channels, bool))
        self._solutions.append(Form(np.zeros(channels), {}))
        one = np.ones(channels)
        return (Form(np.zeros(channels), {len(self._solutions) - 1: one}),)

    def settle(self, shift: Shift, wanted: np.ndarray) -> None:
        """Makes a shift what is wanted, if what is settled leaves that open.

        All channels or none: an addition goes only if every one is right.
        """
        parts = _cut(wanted, _widths(shift))
        pairs = list(zip(shift, parts, strict=True))
        if not all(_can_be(self._reduced(form), values) for form, values in pairs):
            return
        for form, values in pairs:
            left = self._reduced(form)
            for unknown, channels in _chosen(left).items():
                times = np.where(channels, left.terms[unknown], 1.0)
                others = {u: t for u, t in left.terms.items() if u != unknown}
                rest = Form(left.constant, others)
                solution = Form(values / times, {}).plus(rest, -1 / times)
                known = self._solutions[unknown]
                self._solutions[unknown] = known.plus(
                    solution.where(channels), np.ones(())
                )
                self._settled[unknown] = self._settled[unknown] | channels

    def value(self, shift: Shift) -> np.ndarray:
        """The values of a shift; what is open in the end may as well be 0."""
        return np.concatenate([self._reduced(form).constant for form in shift])

    def weighted_sum(self, shifts: Sequence[Shift], weights: np.ndarray) -> Shift:
        """The sum of shifts, each times its row of `weights`, (shifts, channels)."""
        if len({_widths(shift) for shift in shifts}) > 1:
            shifts = self._aligned(shifts)
        total = [Form(np.zeros(width), {}) for width in _widths(shifts[0])]
        for shift, row in zip(shifts, weights, strict=True):
            parts = _cut(row, _widths(shift))
            total = [
                before.plus(form, times)
                for before, form, times in zip(total, shift, parts, strict=True)
            ]
        return tuple(total)

    def _aligned(self, shifts: Sequence[Shift]) -> list[Shift]:
        """Cuts all shifts where any is cut; an open stretch is closed by that."""
        ends = sorted({end for shift in shifts for end in accumulate(_widths(shift))})
        found = []
        for shift in shifts:
            forms: list[Form] = []
            start = 0
            for form in shift:
                stop = start + len(form.constant)
                inside = [end - start for end in ends if start < end < stop]
                if inside:
                    self.settle((form,), self.value((form,)))
                    parts = np.split(self.value((form,)), inside)
                    forms.extend(constant(part)[0] for part in parts)
                else:
                    forms.append(form)
                start = stop
            found.append(tuple(forms))
        return found

    def _reduced(self, form: Form) -> Form:
        """The same form in terms of what is open only."""
        while True:
            known = {
                unknown: np.where(self._settled[unknown], times, 0.0)
                for unknown, times in form.terms.items()
            }
            known = {unknown: times for unknown, times in known.items() if times.any()}
            if not known:
                return form
            rest = {u: t - known.get(u, 0.0) for u, t in form.terms.items()}
            reduced = Form(form.constant, {u: t for u, t in rest.items() if t.any()})
            for unknown, times in known.items():
                reduced = reduced.plus(self._solutions[unknown], times)
            form = reduced


def is_close(shift: np.ndarray, other: np.ndarray) -> bool:
    """Whether two shifts differ by less than float32 can tell."""
    return bool(np.all(_close(shift, other)))


def _close(shift: np.ndarray, other: np.ndarray) -> np.ndarray:
    size = max(np.abs(shift).max(initial=0.0), np.abs(other).max(initial=0.0))
    return np.abs(shift - other) <= 1e-7 * size + 1e-12


def _can_be(left: Form, values: np.ndarray) -> bool:
    """Whether a form can get some values, in every channel, without drowning a map.

    Behind a gain that is as good as 0 the shift would be so large that float32 had no
    digits left for the map, which others read as well.
    """
    if not np.all(left.open() | _close(left.constant, values)):
        return False
    sizes = np.zeros(len(left.constant))
    for unknown, channels in _chosen(left).items():
        times = np.where(channels, left.terms[unknown], 1.0)
        sizes += np.where(channels, np.abs((values - left.constant) / times), 0.0)
    return bool(sizes.max(initial=0.0) <= _LARGER * (1 + np.median(sizes)))


def _chosen(form: Form) -> dict[int, np.ndarray]:
    """The unknowns that give way, and in which channels.

    It is the newest, which stands nearest to where a value is wanted, of those that
    need not change by far more than another would.
    """
    taken = ~form.open()
    largest = np.max([np.zeros(len(taken)), *map(np.abs, form.terms.values())], axis=0)
    found = {}
    for unknown in sorted(form.terms, reverse=True):
        times = np.abs(form.terms[unknown])
        channels = ~taken & (times * _LARGER >= largest)
        if channels.any():
            found[unknown] = channels
        taken |= channels
    return found


def _total(first: np.ndarray | float, second: np.ndarray) -> np.ndarray:
    """A sum; of what cancels, nothing but rounding would be left."""
    total = np.asarray(first + second)
    size = np.maximum(np.abs(first), np.abs(second))
    return np.where(np.abs(total) <= 1e-12 * size, 0.0, total)


def _widths(shift: Shift) -> tuple[int, ...]:
    return tuple(len(form.constant) for form in shift)


def _cut(values: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    whole = np.broadcast_to(values, (sum(widths),))
    return np.split(whole, list(accumulate(widths))[:-1])
