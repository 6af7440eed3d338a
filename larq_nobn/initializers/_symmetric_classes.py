from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_integer, check_number
from .._errors import InvalidValue
from .._keras import keras, register
from .._math import at_least_float32

# Lower bound of lengths, for columns of zeros.
_SHORTEST = 1e-12


def _along(unit: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(unit * vector)


@tf.custom_gradient
def orthonormal(free: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Returns two orthonormal columns of the span of two, by Gram-Schmidt, (D, 2).

    The gradient is a closed form, which divides only by the two lengths of the forward
    pass. TensorFlow's gradient would go through every step, and that of a QR
    decomposition through the inverse of a triangular matrix.
    """
    first, second = tf.unstack(free, axis=1)
    length = tf.maximum(tf.norm(first), _SHORTEST)
    e1 = first / length
    overlap = _along(e1, second)
    rest = second - e1 * overlap
    # A second pass, since the first one leaves rounding errors of parallel columns.
    rest -= e1 * _along(e1, rest)
    height = tf.maximum(tf.norm(rest), _SHORTEST)
    e2 = rest / height

    def grad(upstream: tf.Tensor) -> tf.Tensor:
        g1, g2 = tf.unstack(upstream, axis=1)
        tilt = _along(e1, g2)
        d_second = (g2 - e2 * _along(e2, g2) - e1 * tilt) / height
        d_first = (g1 - e1 * _along(e1, g1) - overlap * d_second - e2 * tilt) / length
        return tf.stack([d_first, d_second], 1)

    return tf.stack([e1, e2], 1), grad


def symmetric_vectors(free: tf.Tensor, classes: int) -> tf.Tensor:
    """Returns unit vectors at the angles 2πk/K in the plane of two columns, (D, K)."""
    plane = orthonormal(at_least_float32(free))
    angles = 2 * np.pi * np.arange(classes) / classes
    directions = np.stack([np.cos(angles), np.sin(angles)])
    return plane @ tf.constant(directions, plane.dtype)


def random_plane(
    shape: Sequence[int], dtype: Any = tf.float32, seed: int | None = None
) -> tf.Tensor:
    """Returns orthonormal columns of a uniformly distributed plane, (D, 2)."""
    normal = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    return tf.cast(orthonormal(normal(shape, dtype="float32")), dtype)


@register()
class SymmetricClasses(keras.initializers.Initializer):
    r"""Initializes a dense classifier with class vectors in one plane, at equal angles.

    \[ W = s P R, \qquad
       R_{\cdot k} = \big(\cos\tfrac{2\pi k}{K}, \sin\tfrac{2\pi k}{K}\big)^\top \]

    for K classes, with a random plane P of two orthonormal columns, (D, 2). The vectors
    have the length s and add up to zero. Training may change them freely;
    `layers.SymmetricHead` keeps the symmetry.

    Arguments:
        scale: Positive length s of every class vector.
        seed: Whole number that decides the plane; None draws another one each time.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, or kernels of
            other shapes than (features, classes) with two of each or more.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        head = tf.keras.layers.Dense(
            10, kernel_initializer=nobn.initializers.SymmetricClasses(), name="head"
        )
        ```

    References:
        - I. Kansizoglou, L. Bampis, A. Gasteratos, "Do Neural Network Weights Account
          for Classes Centers?", IEEE Transactions on Neural Networks and Learning
          Systems, 2022, arXiv:2104.07004.

    Differences from the paper:
        In the paper no layer starts symmetric and then trains freely.
    """

    def __init__(self, scale: float = 1.0, seed: int | None = None):
        advice = "Class vectors of a new dense layer have a length of about 1."
        self.scale = check_number("scale", scale, "(0, inf)", advice)
        self.seed = seed
        if seed is not None:
            self.seed = check_integer("seed", seed, 0, "Use None for any plane.")

    def __call__(
        self, shape: Sequence[int], dtype: Any = None, **kwargs: Any
    ) -> tf.Tensor:
        sizes = tuple(shape)
        if len(sizes) != 2 or min(sizes) < 2:
            raise InvalidValue(
                f"SymmetricClasses got a kernel of shape {sizes}, but it initializes "
                "dense kernels (features, classes) with two of each or more. Use an "
                "initializer of Keras for other layers."
            )
        plane = random_plane((sizes[0], 2), seed=self.seed)
        kernel = self.scale * symmetric_vectors(plane, sizes[1])
        return kernel if dtype is None else tf.cast(kernel, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "seed": self.seed}
