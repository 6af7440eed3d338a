"""Thresholds that leave half of every filter on either side, exactly."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from .._math import at_least_float32, fused, is_compiled, is_for_cpu

# Weights of a kernel from which on counting is faster than selection.
_LARGE = 2**18


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
            few at `high` or above; halved for a bound that does not move.
        side: +1 or -1 for the bound that moved last, 0 at first.
        open: Whether a column is still searched.
    """

    step: tf.Tensor
    threshold: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    above: tf.Tensor
    below: tf.Tensor
    side: tf.Tensor
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
        tf.zeros_like(mean),
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
    enough = excess >= 0
    low = tf.where(enough, now.threshold, now.low)
    high = tf.where(enough, now.high, now.threshold)
    # Regula falsi with halved weights ("Illinois"), and every third time the middle.
    above = tf.where(now.side < 0, now.above / 2, now.above)
    below = tf.where(now.side > 0, now.below / 2, now.below)
    above = tf.where(enough, surplus, above)
    below = tf.where(enough, below, -surplus)
    middle = _rounded(low + (high - low) / 2, columns)
    chord = _rounded(low + (high - low) * (above / (above + below)), columns)
    inside = (chord > low) & (chord < high) & (now.step % 3 != 2)
    # Of equal weights at the middle all are positive, as they are at their median.
    found, closed = excess == 0, (middle <= low) | (middle >= high)
    threshold = tf.where(closed, low, tf.where(inside, chord, middle))
    threshold = tf.where(found, now.threshold, threshold)
    return _Search(
        now.step + 1,
        tf.where(now.open, threshold, now.threshold),
        low,
        high,
        above,
        below,
        tf.where(enough, tf.ones_like(low), -tf.ones_like(low)),
        now.open & ~(found | closed),
    )


def halving_thresholds(
    columns: tf.Tensor, mean: tf.Tensor, sigma: tf.Tensor
) -> tf.Tensor:
    """Cuts every column where its median does: W >= t is W >= median for every weight.

    Which of all such numbers between two weights comes out does not matter to a sign.
    Of large kernels weights above a threshold are counted until they are half, in about
    eight passes over all columns; the eighth that would take longest is selected.

    Arguments:
        columns: (N, C).
        mean: Of every column, (C,), in float32 or better.
        sigma: Population standard deviation, likewise.
    """
    if not is_compiled(columns, _LARGE):
        return _middle(columns)
    few = max(1, columns.shape[1] // 8)

    def goes_on(*now: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(_Search(*now).open, tf.int32)) > few

    def count(*now: tf.Tensor) -> _Search:
        return _next(columns, *now)

    found = _Search(*tf.while_loop(goes_on, count, _begin(columns, mean, sigma)))
    _, last = tf.math.top_k(tf.cast(found.open, tf.int32), few)
    rest = _middle(tf.gather(columns, last, axis=1))
    return tf.tensor_scatter_nd_update(found.threshold, last[:, None], rest)
