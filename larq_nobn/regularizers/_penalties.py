"""The penalties of BNN+, which pull the magnitudes of weights towards a scale."""

from __future__ import annotations

import tensorflow as tf

from .._checks import check_number
from .._errors import InvalidValue
from .._math import at_least_float32


def check_order(order: object) -> int:
    """Returns `order` if there is a penalty of that order."""
    if order not in (1, 2) or isinstance(order, bool):
        raise InvalidValue(
            f"order={order!r} is neither 1 nor 2. Use 1 for the sum of distances, 2 "
            "for that of their squares."
        )
    return int(order)


def check_strength(strength: object) -> float:
    """Returns `strength` as a float if it may multiply a penalty."""
    advice = "It multiplies a sum over all weights; start with 1e-6."
    return check_number("strength", strength, "[0, inf)", advice)


def binary_penalty(kernel: tf.Tensor, scale: tf.Tensor, order: int) -> tf.Tensor:
    """R1, Σ|scale - |w||, or R2, Σ(scale - |w|)², in float32 or better.

    A scale of shape (C,) is for the last axis of the kernel.
    """
    distance = scale - tf.abs(at_least_float32(kernel))
    return tf.reduce_sum(tf.abs(distance) if order == 1 else tf.square(distance))


def median(magnitudes: tf.Tensor) -> tf.Tensor:
    """Median of a vector without negative numbers.

    The bits of such numbers, read as integers, are in their order, so the median is
    found bit by bit: 31 passes, ten times as fast as sorting the kernel of a layer.
    """
    integer = tf.int64 if magnitudes.dtype == tf.float64 else tf.int32
    bits = tf.bitcast(magnitudes, integer)
    rank = (magnitudes.shape[0] - 1) // 2

    def count(are_below: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(are_below, tf.int32))

    # The largest integer with at most `rank` numbers below it.
    lower = tf.constant(0, integer)
    for bit in reversed(range(8 * integer.size - 1)):
        trial = lower + (1 << bit)
        lower = tf.where(count(bits < trial) <= rank, trial, lower)
    middle = tf.bitcast(lower, magnitudes.dtype)
    if magnitudes.shape[0] % 2:
        return middle
    above = tf.where(bits > lower, magnitudes, magnitudes.dtype.max)
    other = tf.where(count(bits <= lower) > rank + 1, middle, tf.reduce_min(above))
    return (middle + other) / 2
