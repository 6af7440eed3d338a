"""Tensor functions shared by several methods."""

from __future__ import annotations

import tensorflow as tf


def at_least_float32(x: tf.Tensor) -> tf.Tensor:
    """Casts half precision to float32, in which all statistics are taken."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def channel_sum(x: tf.Tensor) -> tf.Tensor:
    """Sums a feature map over every axis but the last, in float32 or better: (C,)."""
    return tf.reduce_sum(at_least_float32(x), axis=tuple(range(x.shape.rank - 1)))


def unit_sum(matrix: tf.Tensor) -> tf.Tensor:
    """Sums an (N, C) matrix over its rows: (C,).

    The bias gradient kernel is this very sum, and on a CPU twice as fast as
    `tf.reduce_sum` for the tall matrices that kernels are.
    """
    return tf.raw_ops.BiasAddGrad(out_backprop=matrix)
