from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from .._checks import check_integer, check_number
from .._errors import InvalidValue
from .._keras import keras, register
from ._plane import random_plane, symmetric_vectors


@register()
class SymmetricClasses(keras.initializers.Initializer):
    r"""Initializes a dense classifier with class vectors in one plane, at equal angles.

    \[ W = s P R, \qquad
       R_{\cdot k} = \big(\cos\tfrac{2\pi k}{K}, \sin\tfrac{2\pi k}{K}\big)^\top \]

    for K classes, with a random plane P of two orthonormal columns, (D, 2). The vectors
    have the length s and add up to zero, and training is free to move them: what
    `layers.SymmetricHead` keeps, this only starts with.

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
        The paper has no layer that starts symmetric and is then left free.
    """

    def __init__(self, scale: float = 1.0, seed: int | None = None):
        advice = "With 1 they are about as long as those of a fresh dense layer."
        self.scale = check_number("scale", scale, "(0, inf)", advice)
        self.seed = (
            None
            if seed is None
            else check_integer("seed", seed, 0, "Use None for any plane.")
        )

    def __call__(
        self, shape: Sequence[int], dtype: Any = None, **kwargs: Any
    ) -> tf.Tensor:
        sizes = tuple(shape)
        if len(sizes) != 2 or min(sizes) < 2:
            raise InvalidValue(
                f"SymmetricClasses got a kernel of shape {sizes}, but it starts dense "
                "kernels (features, classes) with two of each or more. Leave other "
                "layers to Keras' initializers."
            )
        plane = random_plane((sizes[0], 2), seed=self.seed)
        kernel = self.scale * symmetric_vectors(plane, sizes[1])
        return kernel if dtype is None else tf.cast(kernel, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "seed": self.seed}
