"""Thresholds that leave half of every filter on either side, exactly."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from .._math import at_least_float32, fused, is_compiled, is_for_cpu

# Weights of a kernel from which on counting is faster than selection.
_LARGE = 2**18
# Weights of a filter that are sorted rather than counted again.
_FEW = 16


def _middle(columns: tf.Tensor) -> tf.Tensor:
    """Of every column the smallest weight of its larger half."""
    place = (columns.shape[0] - 1) // 2
    rows = tf.transpose(at_least_float32(columns))
    if is_for_cpu():
        return tf.raw_ops.NthElement(input=rows, n=place, reverse=True)
    return tf.math.top_k(rows, place + 1)[0][:, -1]


class _Search(NamedTuple):
    """Brackets of all columns: the threshold wanted is at `low` or above, below `high`.

    Attributes:
        step: Number of counts so far.
        threshold: To be tried next; of a column that is not open, the result.
        low, high: Numbers that the columns can hold.
        above, below: How many weights too many are at `low` or above, and how many too
            few at `high` or above; before they are counted, what they may be.
        excess: How many weights too many the last count found.
        open: Whether a column is still searched.
    """

    step: tf.Tensor
    threshold: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    above: tf.Tensor
    below: tf.Tensor
    excess: tf.Tensor
    open: tf.Tensor


def _begin(columns: tf.Tensor, mean: tf.Tensor, sigma: tf.Tensor) -> _Search:
    # The median is less than a standard deviation away from the mean; the rest is for
    # rounding to half precision.
    reach = 1.1 * sigma + 0.01 * tf.abs(mean) + 1e-7
    share = tf.fill(tf.shape(mean), tf.cast(0.35 * columns.shape[0], mean.dtype))
    return _Search(
        tf.constant(0),
        _rounded(mean, columns),
        _rounded(mean - reach, columns),
        _rounded(mean + reach, columns),
        share,
        share,
        tf.zeros(tf.shape(mean), tf.int32),
        tf.math.is_finite(sigma),
    )


def _rounded(x: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """To the nearest number that the columns can hold."""
    return tf.cast(tf.cast(x, columns.dtype), x.dtype)


@fused
def _next(columns: tf.Tensor, *brackets: tf.Tensor) -> _Search:
    """Counts at the threshold, and moves one bound of every column there."""
    now = _Search(*brackets)
    positive = at_least_float32(columns) >= now.threshold
    half = (columns.shape[0] + 1) // 2
    excess = tf.reduce_sum(tf.cast(positive, tf.int32), axis=0) - half
    surplus = tf.cast(excess, now.low.dtype)
    moved, moves_low = now.open & (excess != 0), excess > 0
    low = tf.where(moved & moves_low, now.threshold, now.low)
    high = tf.where(moved & ~moves_low, now.threshold, now.high)
    above = tf.where(moves_low, surplus, now.above)
    below = tf.where(moves_low, now.below, -surplus)
    # Regula falsi, and every fourth time the middle.
    middle = _rounded(low + (high - low) / 2, columns)
    chord = _rounded(low + (high - low) * (above / (above + below)), columns)
    inside = (chord > low) & (chord < high) & (now.step % 4 != 3)
    # Of equal weights at the middle all are positive, as they are at their median.
    closed = (middle <= low) | (middle >= high)
    threshold = tf.where(closed, low, tf.where(inside, chord, middle))
    return _Search(
        now.step + 1,
        tf.where(moved, threshold, now.threshold),
        low,
        high,
        above,
        below,
        tf.where(moved, excess, now.excess),
        moved & ~closed,
    )


@fused
def _inside(
    columns: tf.Tensor, low: tf.Tensor, high: tf.Tensor, searched: tf.Tensor
) -> tf.Tensor:
    weights = at_least_float32(columns)
    return (weights >= low) & (weights < high) & searched


def _finished(columns: tf.Tensor, found: _Search) -> tf.Tensor:
    """Sorts what the brackets of the open columns hold, and takes the middle of each.

    The last count tells its place: it moved `low` if there were too many, else `high`.
    """
    places = tf.where(_inside(columns, found.low, found.high, found.open))
    weights = at_least_float32(tf.gather_nd(columns, places))
    column = tf.cast(places[:, 1], tf.int32)
    held = tf.math.bincount(column, minlength=columns.shape[1])
    place = tf.where(found.excess > 0, found.excess, held + found.excess)
    order = tf.argsort(weights)
    order = tf.gather(order, tf.argsort(tf.gather(column, order), stable=True))
    order = tf.gather(order, (tf.cumsum(held, exclusive=True) + place)[found.open])
    return tf.tensor_scatter_nd_update(
        found.threshold, tf.where(found.open), tf.gather(weights, order)
    )


def halving_thresholds(
    columns: tf.Tensor, mean: tf.Tensor, sigma: tf.Tensor
) -> tf.Tensor:
    """Cuts every column where its median does: W >= t is W >= median for every weight.

    Which of all such numbers between two weights comes out does not matter to a sign.
    Of large kernels weights above a threshold are counted until few are left that may
    be the median, in three to five passes over all columns, and those are sorted; or,
    where nothing can be sorted whose number is not known, until none is left.

    Arguments:
        columns: (N, C).
        mean: Of every column, (C,), in float32 or better.
        sigma: Population standard deviation, likewise.
    """
    if not is_compiled(columns, _LARGE):
        return _middle(columns)
    sorts = is_for_cpu()
    few = _FEW * columns.shape[1] if sorts else 0

    def goes_on(*now: tf.Tensor) -> tf.Tensor:
        at = _Search(*now)
        held = tf.where(at.open, at.above + at.below, tf.zeros_like(at.above))
        return tf.reduce_sum(held) > few

    def count(*now: tf.Tensor) -> _Search:
        return _next(columns, *now)

    found = _Search(*tf.while_loop(goes_on, count, _begin(columns, mean, sigma)))
    return _finished(columns, found) if sorts else found.threshold
