"""Thresholds that leave half of every filter on either side, exactly."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

from .._math import at_least_float32, fused, is_compiled, is_for_cpu, unit_sum
from ._filters import Filters

# Weights of a kernel from which on counting is faster than selection.
_LARGE = 2**18
# Of this many columns one is selected from: those that the search takes longest for.
_SHARE = 32
# Blocks of rows that are counted side by side, at most.
_BLOCKS = 16


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
        step: Number of passes so far.
        first, second: Thresholds to be tried next, the lower one first.
        low, high: Numbers that the columns can hold; of a column that is not open,
            `low` is the result.
        above, below: How many weights too many are at `low` or above, and how many too
            few at `high` or above; before they are counted, what they may be.
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
    """To the nearest number that columns of a dtype can hold."""
    return tf.cast(tf.cast(x, dtype), x.dtype)


def _off(share: Any) -> Any:
    """About how many weights regula falsi is off."""
    return 0.3 * (share + 1) ** 0.5


def _start(of: Filters) -> _Search:
    columns, mean, sigma, _ = of
    # The median is less than a standard deviation away from the mean; the rest is for
    # rounding to half precision.
    reach = 1.1 * sigma + 0.01 * tf.abs(mean) + 1e-7
    share = 0.35 * columns.shape[0]
    near = _off(share) / share * reach
    first, second, low, high = (
        _rounded(x, columns.dtype)
        for x in (mean - near, mean + near, mean - reach, mean + reach)
    )
    shares = tf.fill(tf.shape(mean), tf.constant(share, mean.dtype))
    searched = tf.math.is_finite(sigma)
    step = tf.constant(0)
    return _Search(step, first, second, low, high, shares, shares, searched)


def _to_try(dtype: tf.DType, step: tf.Tensor, *bracket: tf.Tensor) -> _Search:
    """Chooses two numbers inside every bracket.

    They lie on both sides of the chord, about as far from it as regula falsi is off;
    every sixth time at the thirds, since some distributions hold out against that.
    """
    low, high, above, below, _ = bracket
    off = _off(tf.minimum(above, below))
    thirds, third = step % 6 == 5, tf.ones_like(off) / 3
    middle = _rounded(low + (high - low) / 2, dtype)

    def inside(share: tf.Tensor) -> tf.Tensor:
        x = _rounded(low + (high - low) * share, dtype)
        return tf.where((x > low) & (x < high), x, middle)

    one = inside(tf.where(thirds, third, (above - off) / (above + below)))
    other = inside(tf.where(thirds, 2 * third, (above + off) / (above + below)))
    return _Search(step, tf.minimum(one, other), tf.maximum(one, other), *bracket)


def _unit(rows: int) -> int:
    """What a count is multiplied by to stand beside another one in an integer."""
    return 2**15 if rows < 2**15 else 2**31


@fused
def _counts(columns: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """How many weights are at two thresholds or above, both in one integer.

    To be added up over the rows that are left. Of blocks of rows that is a loop along
    memory, and takes a third of the time of one down the columns.
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
    """`unit_sum` of integers, of which TensorFlow has none for GPUs."""
    return tf.reduce_sum(counts, axis=0)


@partial(fused, smallest=0)
def _narrowed(
    counts: tf.Tensor, half: tf.Tensor, *search: tf.Tensor, unit: int, dtype: tf.DType
) -> _Search:
    """Moves the bounds to the nearest numbers that were tried.

    Compiled, since they are many operations on few numbers: once for all kernels.
    """
    now = _Search(*search)
    more = tf.cast(counts % unit - half, now.low.dtype)
    less = tf.cast(counts // unit - half, now.low.dtype)
    low = tf.where(less >= 0, now.second, tf.where(more >= 0, now.first, now.low))
    above = tf.where(less >= 0, less, tf.where(more >= 0, more, now.above))
    high = tf.where(more < 0, now.first, tf.where(less < 0, now.second, now.high))
    below = tf.where(more < 0, -more, tf.where(less < 0, -less, now.below))
    low = tf.where(now.open, low, now.low)
    # Of equal weights at the middle all are positive, as they are at their median.
    middle = _rounded(low + (high - low) / 2, dtype)
    goes_on = now.open & (above != 0) & (middle > low) & (middle < high)
    return _to_try(dtype, now.step + 1, low, high, above, below, goes_on)


def _searched(columns: tf.Tensor, search: _Search, few: int) -> _Search:
    """Narrows the brackets until at most a few columns are open."""
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


def halving_thresholds(of: Filters) -> tf.Tensor:
    """Cuts every column where its median does: W >= t is W >= median for every weight.

    Which of all such numbers between two weights comes out does not matter to a sign.
    Of large kernels weights above thresholds are counted, two at a time, until they are
    half, in about six passes over all columns; the few of them that would take longest
    are selected from.
    """
    columns = of.columns
    if not is_compiled(columns, _LARGE):
        return _middle(columns)
    few = max(1, columns.shape[1] // _SHARE)
    bounds = _searched(columns, _start(of), few)
    _, last = tf.math.top_k(tf.cast(bounds.open, tf.int32), few)
    rest = _middle(tf.gather(columns, last, axis=1))
    return tf.tensor_scatter_nd_update(bounds.low, last[:, None], rest)
