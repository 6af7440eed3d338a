"""Thresholds that split every filter exactly in half."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from .._math import at_least_float32, fused, is_compiled, is_for_cpu, unit_sum
from ._filters import Filters

# In kernels of this many weights or more, counting is faster than selection.
_LARGE = 2**18
# One in this many columns is selected from: those that the search takes longest for.
_COLUMNS_PER_SELECTION = 32
# Most blocks of rows that are counted side by side.
_BLOCKS = 16


def _selected(columns: tf.Tensor) -> tf.Tensor:
    """Returns the smallest weight of the larger half of every column."""
    place = (columns.shape[0] - 1) // 2
    rows = tf.transpose(at_least_float32(columns))
    if is_for_cpu():
        return tf.raw_ops.NthElement(input=rows, n=place, reverse=True)
    return tf.math.top_k(rows, place + 1)[0][:, -1]


class _Search(NamedTuple):
    """Brackets of all columns: low <= threshold < high.

    Attributes:
        step: Number of passes so far.
        first, second: Thresholds of the next pass, the lower one first.
        low, high: Bounds, as numbers of the columns' dtype; `low` is the result of a
            column whose search has ended.
        above, below: By how many the weights >= low exceed half of the column, and by
            how many the weights >= high fall short of it; estimates until counted.
        open: Whether a column is still searched.
    """

    step: tf.Tensor
    first: tf.Tensor
    second: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    above: tf.Tensor
    below: tf.Tensor
    open: tf.Tensor


def _rounded(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Rounds x to the nearest number of a dtype."""
    return tf.cast(tf.cast(x, dtype), x.dtype)


def _expected_error(distance: Any) -> Any:
    """Returns the error of regula falsi in weights, if a bound is `distance` away."""
    return 0.3 * (distance + 1) ** 0.5


def _start(filters: Filters) -> _Search:
    columns, mean, sigma, _ = filters
    # The median is less than a standard deviation away from the mean; the rest allows
    # for rounding to half precision.
    reach = 1.1 * sigma + 0.01 * tf.abs(mean) + 1e-7
    estimate = 0.35 * columns.shape[0]
    near = _expected_error(estimate) / estimate * reach
    first, second, low, high = (
        _rounded(x, columns.dtype)
        for x in (mean - near, mean + near, mean - reach, mean + reach)
    )
    excess = tf.fill(tf.shape(mean), tf.constant(estimate, mean.dtype))
    searched = tf.math.is_finite(sigma)
    step = tf.constant(0)
    return _Search(step, first, second, low, high, excess, excess, searched)


def _next_pass(dtype: tf.DType, step: tf.Tensor, *bracket: tf.Tensor) -> _Search:
    """Chooses two thresholds inside every bracket.

    They lie on both sides of the point of regula falsi, its expected error away. Every
    sixth pass takes the thirds of the bracket, since regula falsi is slow on some
    distributions.
    """
    low, high, above, below, _ = bracket
    error = _expected_error(tf.minimum(above, below))
    thirds, third = step % 6 == 5, tf.ones_like(error) / 3
    middle = _rounded(low + (high - low) / 2, dtype)

    def inside(fraction: tf.Tensor) -> tf.Tensor:
        x = _rounded(low + (high - low) * fraction, dtype)
        return tf.where((x > low) & (x < high), x, middle)

    one = inside(tf.where(thirds, third, (above - error) / (above + below)))
    other = inside(tf.where(thirds, 2 * third, (above + error) / (above + below)))
    return _Search(step, tf.minimum(one, other), tf.maximum(one, other), *bracket)


def _unit(rows: int) -> int:
    """Returns the factor of the second of two counts that one integer contains."""
    return 2**15 if rows < 2**15 else 2**31


@fused
def _counts(columns: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Counts the weights >= first and the weights >= second, both in one integer.

    The counts are those of blocks of rows, and the caller adds up what remains: a loop
    along memory takes a third of the time of one down the columns.
    """
    rows, unit = columns.shape[0], _unit(columns.shape[0])
    dtype = tf.int32 if unit == 2**15 else tf.int64
    weights = at_least_float32(columns)
    both = tf.cast(weights >= first, dtype) + unit * tf.cast(weights >= second, dtype)
    count = max(n for n in range(1, _BLOCKS + 1) if rows % n == 0)
    blocks = tf.reshape(both, (count, rows // count, columns.shape[1]))
    return tf.reduce_sum(blocks, axis=0)


@partial(fused, smallest=0)
def _summed(counts: tf.Tensor) -> tf.Tensor:
    """Computes `unit_sum` of integers, which TensorFlow lacks for GPUs."""
    return tf.reduce_sum(counts, axis=0)


@partial(fused, smallest=0)
def _narrowed(
    counts: tf.Tensor, half: tf.Tensor, *search: tf.Tensor, unit: int, dtype: tf.DType
) -> _Search:
    """Moves the bounds to the nearest thresholds that were counted.

    It is compiled, once for all kernels: these are many operations on few numbers.
    """
    now = _Search(*search)
    # By how many more than half of the weights each threshold is reached.
    excess1 = tf.cast(counts % unit - half, now.low.dtype)
    excess2 = tf.cast(counts // unit - half, now.low.dtype)
    low = tf.where(excess2 >= 0, now.second, tf.where(excess1 >= 0, now.first, now.low))
    above = tf.where(excess2 >= 0, excess2, tf.where(excess1 >= 0, excess1, now.above))
    high = tf.where(excess1 < 0, now.first, tf.where(excess2 < 0, now.second, now.high))
    below = tf.where(excess1 < 0, -excess1, tf.where(excess2 < 0, -excess2, now.below))
    low = tf.where(now.open, low, now.low)
    # All weights equal to the median become positive, as with the median itself.
    middle = _rounded(low + (high - low) / 2, dtype)
    goes_on = now.open & (above != 0) & (middle > low) & (middle < high)
    return _next_pass(dtype, now.step + 1, low, high, above, below, goes_on)


def _searched(columns: tf.Tensor, search: _Search, few: int) -> _Search:
    """Narrows the brackets until at most `few` columns are open."""
    rows = columns.shape[0]
    added = unit_sum if is_for_cpu() else _summed

    def goes_on(*now: tf.Tensor) -> tf.Tensor:
        return tf.math.count_nonzero(_Search(*now).open) > few

    def narrow(*now: tf.Tensor) -> _Search:
        at = _Search(*now)
        counts = added(_counts(columns, at.first, at.second))
        half = tf.constant((rows + 1) // 2, counts.dtype)
        return _narrowed(counts, half, *at, unit=_unit(rows), dtype=columns.dtype)

    return _Search(*tf.while_loop(goes_on, narrow, search))


def halving_thresholds(filters: Filters) -> tf.Tensor:
    """Returns t for every column such that W >= t is W >= median for every weight.

    Any such number between two weights gives the same signs. In large kernels, about
    six passes over all columns count the weights above two thresholds each, until half
    are; the few columns that would take longest are sorted partially instead.
    """
    columns = filters.columns
    if not is_compiled(columns, _LARGE):
        return _selected(columns)
    few = max(1, columns.shape[1] // _COLUMNS_PER_SELECTION)
    bounds = _searched(columns, _start(filters), few)
    _, last = tf.math.top_k(tf.cast(bounds.open, tf.int32), few)
    rest = _selected(tf.gather(columns, last, axis=1))
    return tf.tensor_scatter_nd_update(bounds.low, last[:, None], rest)
