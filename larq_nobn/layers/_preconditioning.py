"""Gradients as the equivalent batch-normalized layer would have them."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from .._math import at_least_float32

# The smallest variance of an input, as a fraction of the largest (ε₁ of the paper).
_SMALLEST_SHARE = 1e-2


def limited(variance: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Keeps variances, one column per group of inputs, away from zero."""
    largest = tf.reduce_max(variance, axis=0, keepdims=True)
    return tf.maximum(variance, _SMALLEST_SHARE * largest) + epsilon


def preconditioned(
    d_kernel: tf.Tensor, d_bias: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """P Pᵀ g, where w = ŵ/σ and b = b̂ - Σ ŵ μ/σ lead from batch norm to here.

    Arguments:
        d_kernel: (..., inputs, units); the axes in front are the taps.
        d_bias: (units,).
        mean: μ, (inputs, 1), or (inputs, units) where units see different inputs.
        variance: σ², shaped like the mean.
    """
    along = (d_kernel - mean * d_bias) / variance
    return along, d_bias - tf.reduce_sum(mean * along, range(along.shape.rank - 1))


@tf.custom_gradient
def preconditioning(
    kernel: tf.Tensor, bias: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
    """The kernel and bias as they are; their gradients leave preconditioned."""

    def grad(
        d_kernel: tf.Tensor, d_bias: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, None, None]:
        wide = at_least_float32(d_kernel), at_least_float32(d_bias)
        d_kernel, d_bias = preconditioned(*wide, mean, variance)
        return tf.cast(d_kernel, kernel.dtype), tf.cast(d_bias, bias.dtype), None, None

    return (tf.identity(kernel), tf.identity(bias)), grad
