"""Per-channel shifts of which some are still open, and the solving for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np


class Form(NamedTuple):
    """`constant` plus multiples of unknown shifts, for the channels of one stretch."""

    constant: np.ndarray
    terms: Mapping[int, np.ndarray]

    def plus(self, other: Form, weight: np.ndarray) -> Form:
        """This form plus `weight` times another."""
        terms = dict(self.terms)
        for unknown, times in other.terms.items():
            terms[unknown] = terms.get(unknown, 0.0) + weight * times
        constant = self.constant + weight * other.constant
        return Form(constant, {u: t for u, t in terms.items() if np.any(_is_some(t))})


# A shift of all channels of a tensor: stretches of them, as concatenation joins them.
Shift = tuple[Form, ...]


def constant(values: np.ndarray) -> Shift:
    """The shift of known values, one per channel."""
    return (Form(np.asarray(values, np.float64), {}),)


class Unknowns:
    """Shifts that may be chosen, until some condition settles them."""

    def __init__(self) -> None:
        self._solutions: list[Form | None] = []

    def new(self, channels: int) -> Shift:
        """A shift of which nothing is settled."""
        self._solutions.append(None)
        one = np.ones(channels)
        return (Form(np.zeros(channels), {len(self._solutions) - 1: one}),)

    def settle(self, shift: Shift, wanted: np.ndarray) -> None:
        """Makes a shift what is wanted, if what is settled leaves that open."""
        parts = _cut(wanted, _widths(shift))
        # All stretches or none: an addition goes only if every channel is right.
        for form, values in zip(shift, parts, strict=True):
            left = self._reduced(form)
            if not (_free(left) or is_close(left.constant, values)):
                return
        for form, values in zip(shift, parts, strict=True):
            left = self._reduced(form)
            for chosen in _free(left)[-1:]:  # it stands nearest to where this is wanted
                others = {u: t for u, t in left.terms.items() if u != chosen}
                times = left.terms[chosen]
                target = Form(values / times, {})
                rest = Form(left.constant, others)
                self._solutions[chosen] = target.plus(rest, -1 / times)

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
        """The same form in terms of open unknowns only."""
        while True:
            known = {u: s for u in form.terms if (s := self._solutions[u]) is not None}
            if not known:
                return form
            rest = {u: times for u, times in form.terms.items() if u not in known}
            reduced = Form(form.constant, rest)
            for unknown, solution in known.items():
                reduced = reduced.plus(solution, form.terms[unknown])
            form = reduced


def is_close(shift: np.ndarray, other: np.ndarray) -> bool:
    """Whether two shifts differ by less than float32 can tell."""
    size = max(np.abs(shift).max(initial=0.0), np.abs(other).max(initial=0.0))
    return bool(np.all(np.abs(shift - other) <= 1e-7 * size + 1e-12))


def _free(form: Form) -> list[int]:
    """The unknowns that alone could give a form any value, the newest last."""
    return sorted(u for u, times in form.terms.items() if np.all(_is_some(times)))


def _is_some(times: np.ndarray) -> np.ndarray:
    """Whether a factor is more than what rounding leaves of 0."""
    return np.abs(times) > 1e-9


def _widths(shift: Shift) -> tuple[int, ...]:
    return tuple(len(form.constant) for form in shift)


def _cut(values: np.ndarray, widths: tuple[int, ...]) -> list[np.ndarray]:
    whole = np.broadcast_to(values, (sum(widths),))
    return np.split(whole, list(accumulate(widths))[:-1])
