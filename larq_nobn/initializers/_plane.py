"""Class vectors in a plane, at equal angles: what a head and an initializer share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from .._math import at_least_float32

# Keeps columns of zeros finite.
_SHORTEST = 1e-12


def _along(unit: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(unit * vector)


@tf.custom_gradient
def orthonormal(free: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Two orthonormal columns of the span of two: Gram and Schmidt's, (D, 2).

    TensorFlow's gradient goes through every step of the way, and a QR decomposition's
    through the inverse of a triangle. This one is worked out for what is left in the
    end, and divides by no more than the two lengths that the way itself divides by.
    """
    first, second = tf.unstack(free, axis=1)
    length = tf.maximum(tf.norm(first), _SHORTEST)
    e1 = first / length
    overlap = _along(e1, second)
    rest = second - e1 * overlap
    # Once more: of nearly parallel columns the first pass leaves mostly rounding.
    rest -= e1 * _along(e1, rest)
    height = tf.maximum(tf.norm(rest), _SHORTEST)
    e2 = rest / height

    def grad(upstream: tf.Tensor) -> tf.Tensor:
        g1, g2 = tf.unstack(upstream, axis=1)
        tilt = _along(e1, g2)
        d_second = (g2 - e2 * _along(e2, g2) - e1 * tilt) / height
        turned = g1 - e1 * _along(e1, g1) - overlap * d_second - e2 * tilt
        return tf.stack([turned / length, d_second], 1)

    return tf.stack([e1, e2], 1), grad


def symmetric_vectors(free: tf.Tensor, classes: int) -> tf.Tensor:
    """Unit vectors at the angles 2πk/K in the plane of two columns: (D, K)."""
    plane = orthonormal(at_least_float32(free))
    turns = 2 * np.pi * np.arange(classes) / classes
    directions = np.stack([np.cos(turns), np.sin(turns)])
    return plane @ tf.constant(directions, plane.dtype)


def random_plane(
    shape: Sequence[int], dtype: Any = None, seed: int | None = None
) -> tf.Tensor:
    """Orthonormal columns of a plane of which none is likelier than another: (D, 2)."""
    normal = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    plane = orthonormal(normal(shape, dtype="float32"))
    return plane if dtype is None else tf.cast(plane, dtype)
