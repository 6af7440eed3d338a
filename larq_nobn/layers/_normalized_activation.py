"""An activation after a group norm, as one function with a fused gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import tensorflow as tf

from .._math import at_least_float32, channel_sum, fused, with_gradient
from ._groups import group_mean, group_moments

Activation = Callable[[tf.Tensor], tf.Tensor]

# Under the variance of a group, as GroupNorm has it.
FLOOR = 1e-5


@cache
def _value(activation: Activation) -> Callable[..., tf.Tensor]:
    @fused
    def value(
        x: tf.Tensor,
        mean: tf.Tensor,
        scale: tf.Tensor,
        beta: tf.Tensor,
        center: tf.Tensor,
        rate: tf.Tensor,
    ) -> tf.Tensor:
        z = activation((at_least_float32(x) - mean) * scale + beta)
        return tf.cast((z - center) * rate, x.dtype)

    return value


@cache
def _products(activation: Activation) -> Callable[..., tuple[tf.Tensor, ...]]:
    @fused
    def products(
        x: tf.Tensor,
        upstream: tf.Tensor,
        mean: tf.Tensor,
        inverse: tf.Tensor,
        gamma: tf.Tensor,
        beta: tf.Tensor,
        center: tf.Tensor,
        rate: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """What remains to be summed for beta, for gamma and for the rate."""
        g = at_least_float32(upstream)
        normalized = (at_least_float32(x) - mean) * inverse
        y = gamma * normalized + beta
        with tf.GradientTape() as tape:
            tape.watch(y)
            z = activation(y)
        d_y = tape.gradient(z, y, g * rate)
        return d_y, d_y * normalized, g * (z - center)

    return products


@fused
def _slope(
    d_y: tf.Tensor,
    x: tf.Tensor,
    mean: tf.Tensor,
    inverse: tf.Tensor,
    gamma: tf.Tensor,
    across: tf.Tensor,
    along: tf.Tensor,
) -> tf.Tensor:
    normalized = (at_least_float32(x) - mean) * inverse
    return tf.cast(inverse * (gamma * d_y - across - normalized * along), x.dtype)


@with_gradient
def normalized_activation(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    center: tf.Tensor,
    rate: tf.Tensor,
    *,
    activation: Activation,
    groups: int,
) -> tuple[tf.Tensor, Callable]:
    """rate·(activation(gamma·GroupNorm(x) + beta) - center), with a fused gradient."""
    mean, variance = group_moments(x, groups)
    inverse = tf.math.rsqrt(variance + FLOOR)

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
        d_y, d_gamma, d_rate = _products(activation)(
            x, upstream, mean, inverse, gamma, beta, center, rate
        )
        # Per example and channel: all that couples the positions of a group.
        channels = x.shape[-1]
        across, along = group_mean(d_y, channels), group_mean(d_gamma, channels)
        positions = tf.cast(tf.size(x) / tf.size(across), across.dtype)
        of_groups = [group_mean(gamma * each, groups) for each in (across, along)]
        return (
            _slope(d_y, x, mean, inverse, gamma, *of_groups),
            positions * channel_sum(along),
            positions * channel_sum(across),
            -rate * channel_sum(upstream),
            channel_sum(d_rate),
        )

    return _value(activation)(x, mean, inverse * gamma, beta, center, rate), grad
