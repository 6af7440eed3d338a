"""Means and standard deviations per channel of what is computed in parts."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

Parts = list[tf.Tensor]


def mean_of(parts: Parts) -> np.ndarray:
    """Over all axes but the last, in float64: (C,)."""
    sums = [_sums(tf.cast(part, tf.float64)) for part in parts]
    return np.sum(sums, axis=0) / _count(parts)


def moments_of(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and population standard deviation in float64, (C,) each."""
    mean = mean_of(parts)
    squares = [_sums(tf.square(tf.cast(part, tf.float64) - mean)) for part in parts]
    return mean, np.sqrt(np.sum(squares, axis=0) / _count(parts))


def _sums(values: tf.Tensor) -> np.ndarray:
    return tf.reduce_sum(values, axis=list(range(values.shape.rank - 1))).numpy()


def _count(parts: Parts) -> int:
    return sum(int(tf.size(part)) for part in parts) // parts[0].shape[-1]
