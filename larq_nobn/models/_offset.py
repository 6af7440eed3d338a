"""The small number that keeps signs from deciding by rounding.

Kernels of mean zero make 0 of a flat patch, and so do as many +c as -c. Rounding leaves
±1e-9 of that, in Keras otherwise than in a file, and a sign makes ±1 of it.
"""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

from .._keras import keras

# More than rounding makes of sums that should be 0, far less than any other input.
OFFSET = 1e-5
# Of the biases of normalizations, which cost nothing in a file.
START = keras.initializers.Constant(OFFSET)
# Nothing after the convolutions keeps their sums from 0.
BARE = ("none", "nobn")


class Signs(Protocol):
    """How a network takes signs, as in `Parts`."""

    @property
    def normalization(self) -> str: ...

    @property
    def shift(self) -> bool: ...

    @property
    def lift(self) -> bool: ...


def sign_offset(of: Signs) -> float:
    """What is added before every sign.

    A shift that `"nobn"` learns starts at it. It costs nothing in a file after
    convolutions in a row; those of `"nobn"` without shifts have biases that do.
    """
    needed = of.shift if of.normalization == "nobn" else of.normalization == "none"
    return OFFSET if needed and not of.lift else 0.0


def lifted(x: tf.Tensor, of: Signs, name: str = "stem") -> tf.Tensor:
    """Adds the offset after a convolution, where signs have none of their own."""
    if not of.lift or of.normalization not in BARE:
        return x
    return keras.layers.Rescaling(1.0, OFFSET, name=f"{name}_offset")(x)
