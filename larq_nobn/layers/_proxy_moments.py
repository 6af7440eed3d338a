"""Mean and variance of an activation of normal variables, for Proxy Norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from statistics import NormalDist

import tensorflow as tf

# Activations whose moments have a closed form: slope below zero; above, it is 1.
NEGATIVE_SLOPES = {"linear": 1.0, "relu": 0.0, "leaky_relu": 0.2}


@cache
def normal_quantiles(count: int) -> tuple[float, ...]:
    """Returns the median of each of `count` equally probable parts of the normal."""
    normal = NormalDist()
    return tuple(normal.inv_cdf((i + 0.5) / count) for i in range(count))


def sampled_moments(
    activation: Callable[[tf.Tensor], tf.Tensor],
    mean: tf.Tensor,
    std: tf.Tensor,
    num_samples: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and population variance over quantiles of each normal variable.

    The sign of the standard deviation does not matter.
    """
    quantiles = tf.constant(normal_quantiles(num_samples), mean.dtype)[:, tf.newaxis]
    values = activation(mean + std * quantiles)
    center = tf.reduce_mean(values, axis=0)
    return center, tf.reduce_mean(tf.square(values - center), axis=0)


def exact_moments(
    slope: float, mean: tf.Tensor, std: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and variance of max(Y, 0) + slope·min(Y, 0) for normal variables Y.

    All terms use the tail beyond |mean|, since the second moment minus the squared mean
    would cancel.
    """
    # With this floor, the moments of a constant are its value and 0.
    std = tf.maximum(tf.abs(std), 1e-6)
    ratio = mean / std
    positive = ratio > 0
    # -|ratio|, but with a gradient at 0, where layers without shifts start.
    lower = tf.where(positive, -ratio, ratio)
    tail = 0.5 * tf.math.erfc(-lower / math.sqrt(2))
    density = tf.exp(-0.5 * tf.square(lower)) / math.sqrt(2 * math.pi)
    # First the moments of max(t, 0) for a normal t with mean `lower` and variance 1;
    # then those with mean `ratio`, by max(t, 0) = t + max(-t, 0).
    rectified = density + lower * tail
    spread = (tf.square(lower) + 1) * tail + lower * density - tf.square(rectified)
    rectified += tf.where(positive, ratio, 0)
    spread += tf.where(positive, 1 - 2 * tail, 0)
    above = tf.where(positive, 1 - tail, tail)
    rest = 1 - slope
    variance = slope**2 + rest**2 * spread + 2 * slope * rest * above
    return (slope * mean + rest * std * rectified, tf.square(std) * variance)
