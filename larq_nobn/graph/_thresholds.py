"""Turns an affine operation before a sign into a threshold per channel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# The least threshold above 0. Smaller ones are lost: processors may flush the smallest
# numbers to 0, and a scale makes them smaller still.
_LEAST = 1e-30
# The relative error of a number after a few roundings in float64,
_SAME = 2.0**-50
# and in float32.
_SAME_IN_FLOAT32 = 4 * np.finfo(np.float32).eps
# Up to this count of steps, float32 resolves half a step.
_MOST_STEPS = 2.0**20


class Threshold(NamedTuple):
    """sign(gain * x + offset), as a sign of x alone, or its opposite.

    Attributes:
        value: The number from which on the sign of x is +1, in float64, (C,); ±inf
            where the gain is 0.
        negated: Whether the result is the opposite of the sign of x; that sign is then
            +1 only above the value, not at it, (C,).
    """

    value: np.ndarray
    negated: np.ndarray

    def edge(self, dtype: Any = np.float32) -> np.ndarray:
        """Returns the first number of a type at which the sign of x is +1, (C,).

        For x of that type, it is +1 exactly where x >= edge.
        """
        value = self._snapped(dtype)
        with np.errstate(over="ignore"):
            edge: np.ndarray = value.astype(dtype)
        before = np.where(self.negated, edge <= value, edge < value)
        edge = np.where(before, np.nextafter(edge, dtype(np.inf)), edge)
        return np.where(self.negated & (value == 0), dtype(_LEAST), edge)

    def shift(self, scale: float = 1.0, dtype: Any = np.float32) -> np.ndarray:
        """Returns b, (C,), such that sign(x - (-b / scale)), in `dtype`, is that sign.

        With scale 1, -b is the edge. With another, perhaps no b gives exactly the edge;
        then b is the nearest number with which ties are right.
        """
        value, edge = self._snapped(dtype), self.edge(dtype)
        with np.errstate(over="ignore"):
            shift: np.ndarray = (-scale * edge).astype(dtype)
            ties = np.isfinite(edge) & (value.astype(dtype) == value)
        for _ in range(4):  # no more than three roundings lie between
            seen = -shift / dtype(scale)
            low, high = self.negated & (seen <= value), ~self.negated & (seen > value)
            shift = np.where(ties & low, np.nextafter(shift, dtype(-np.inf)), shift)
            shift = np.where(ties & high, np.nextafter(shift, dtype(np.inf)), shift)
        return shift

    def _snapped(self, dtype: Any) -> np.ndarray:
        """Returns the value, or a number of the type if float64 just missed that."""
        with np.errstate(over="ignore"):
            nearest = self.value.astype(dtype).astype(np.float64)
        with np.errstate(invalid="ignore"):  # inf - inf
            away = np.abs(nearest - self.value)
        return np.where(away <= _SAME * np.abs(self.value), nearest, self.value)


def between_steps(value: Any, step: Any, negated: Any = False) -> np.ndarray:
    """Moves thresholds on whole multiples of a step to halfway between two, (C,).

    There, rounding cannot reach them. A threshold that equals a multiple, up to a few
    roundings in float32, counts as one. A sign is +1 from its threshold on, or if
    `negated` only above it.
    """
    with np.errstate(invalid="ignore"):  # inf - inf
        count = np.asarray(value, np.float64) / step
        nearest = np.round(count)
        is_whole = np.abs(count - nearest) <= _SAME_IN_FLOAT32 * np.abs(nearest)
    below = np.where(is_whole, nearest - ~np.asarray(negated), np.floor(count))
    return np.where(np.abs(count) <= _MOST_STEPS, (below + 0.5) * step, value)


def threshold_of_affine(gain: Any, offset: Any) -> Threshold:
    r"""Returns the threshold of sign(gain * x + offset), where sign(0) = +1.

    With \(t = -o / g\):

    - \(g > 0\): \(g x + o \ge 0 \iff x \ge t\), so the sign is sign(x - t).
    - \(g < 0\): \(g x + o \ge 0 \iff x \le t\), so it is the opposite of a sign that is
      +1 where \(x > t\): at \(x = t\), that sign is -1 and its opposite +1.
    - \(g = 0\): the sign is +1 where \(o \ge 0\), and t is -inf; else -1, and t is inf.

    The quotient is rounded to float64, and t counts as a number of float32 if it is
    within 2^-50 of it. For g, o and x in float32 neither decides anything: if
    \(t \ne x\), then \(|t - x| = |o + g x| / |g|\), and \(o + g x\) is a multiple of
    the unit in which \(g x\) has 48 bits, so that t is off x by \(2^{-48}\) of it or
    more.
    """
    gain, offset = np.broadcast_arrays(
        np.atleast_1d(np.asarray(gain, np.float64)), np.asarray(offset, np.float64)
    )
    negated, moves = gain < 0, gain != 0
    with np.errstate(over="ignore"):
        crossed = -offset / np.where(moves, gain, 1.0)
    value = np.where(moves, crossed, np.where(offset >= 0, -np.inf, np.inf))
    return Threshold(value, negated)
