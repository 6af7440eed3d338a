"""Normalization by a mixture of the batch's moments and a prior."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from .._math import (
    at_least_float32,
    channel_sum,
    fused,
    offset_product,
    squared_offset,
    with_gradient,
)

# A prior whose variances are on average this many times those of the batch is wrong.
_LARGEST_RATIO = 100


@fused
def _affine(x: tf.Tensor, factor: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    return tf.cast(at_least_float32(x) * factor + offset, x.dtype)


@fused
def _slope(
    upstream: tf.Tensor,
    x: tf.Tensor,
    direct: tf.Tensor,
    along: tf.Tensor,
    offset: tf.Tensor,
) -> tf.Tensor:
    slope = at_least_float32(upstream) * direct + at_least_float32(x) * along + offset
    return tf.cast(slope, x.dtype)


def normalize(
    x: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """gamma·(x - mean)/sqrt(variance + epsilon) + beta."""
    factor = gamma * tf.math.rsqrt(variance + epsilon)
    return _affine(x, factor, beta - factor * mean)


def posterior(
    batch_mean: tf.Tensor,
    batch_variance: tf.Tensor,
    prior_mean: tf.Tensor,
    prior_variance: tf.Tensor,
    prior: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Weight of the prior, distance of the means, and the mixture's two moments."""
    # False for 0/0 too, a channel that is constant in both.
    usable = tf.reduce_mean(prior_variance / batch_variance) < _LARGEST_RATIO
    p = tf.where(usable, tf.constant(prior, batch_mean.dtype), 0)
    # An infinite prior must not meet its weight of 0.
    distance = tf.where(usable, batch_mean - prior_mean, 0)
    excess = tf.where(usable, prior_variance - batch_variance, 0)
    mean = batch_mean - p * distance
    variance = batch_variance + p * excess + p * (1 - p) * tf.square(distance)
    return p, distance, mean, variance


@with_gradient
def batch_kalman_norm(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    prior_mean: tf.Tensor,
    prior_variance: tf.Tensor,
    *,
    prior: float,
    epsilon: float,
) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], Callable]:
    """The normalized batch and its posterior mean and variance, per channel."""
    count = tf.cast(tf.size(x) / x.shape[-1], gamma.dtype)
    batch_mean = channel_sum(x) / count
    batch_variance = channel_sum(squared_offset(x, batch_mean)) / count
    p, distance, mean, variance = posterior(
        batch_mean, batch_variance, prior_mean, prior_variance, prior
    )
    q = 1 - p

    def grad(
        d_y: tf.Tensor, d_mean: tf.Tensor, d_variance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        rate = tf.math.rsqrt(variance + epsilon)
        total, inner = channel_sum(d_y), channel_sum(offset_product(d_y, x, mean))
        d_mean -= gamma * rate * total
        d_variance -= 0.5 * gamma * rate**3 * inner
        # d variance / d x_j = 2q (x_j - batch_mean + p distance) / count
        along = 2 * q * d_variance / count
        offset = q * d_mean / count - along * (batch_mean - p * distance)
        d_x = _slope(d_y, x, gamma * rate, along, offset)
        d_prior_mean = p * (d_mean - 2 * q * distance * d_variance)
        return d_x, rate * inner, total, d_prior_mean, p * d_variance

    return (normalize(x, mean, variance, gamma, beta, epsilon), mean, variance), grad
