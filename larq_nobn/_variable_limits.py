"""How much memory a model of others may ask for, before it is given any."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ._archive_limits import bytes_of
from ._keras import keras

# What no file holds: optimizers that were never used, metrics, states of quantizers.
_RATIO, _FREE = 8, 1 << 26


class TooLarge(ValueError):
    """A model asks for more than its file accounts for."""


@contextlib.contextmanager
def limited_variables(
    stored: int, ratio: int = _RATIO, free: int = _FREE
) -> Iterator[None]:
    """Lets the block make variables as large as what a file contains for them.

    Arguments:
        stored: Bytes of the weights in the file, by its header.
        ratio: How often these may be needed.
        free: Bytes that are not asked about.

    Raises:
        TooLarge: As soon as there would be more, before they are allocated.
    """
    limit, made = ratio * stored + free, 0
    refusal: TooLarge | None = None

    def create(make: Any, **options: Any) -> tf.Variable:
        nonlocal made, refusal
        wanted = _bytes_of(options)
        made += wanted
        if made > limit:
            refusal = TooLarge(
                f"asks for {wanted:,} bytes in layer {_layer_name()!r}, more than its "
                f"weights of {stored:,} bytes account for"
            )
            raise refusal
        return make(**options)

    try:
        with tf.variable_creator_scope(create):
            yield
    except Exception:  # Keras says it in words of its own, or quotes a configuration
        if refusal is None:
            raise
    if refusal is not None:
        raise refusal


def _bytes_of(options: dict[str, Any]) -> int:
    """The bytes of a variable, by what it is made with."""
    shape, dtype = options.get("shape"), options.get("dtype")
    value: Any = options.get("initial_value")
    if shape is None and not callable(value):
        shape = np.shape(value)
    values = tf.TensorShape(shape).num_elements() or 0
    return bytes_of(values, tf.as_dtype(dtype or tf.float32).size)


def _layer_name() -> str:
    """The innermost layer that is being built."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.layers.Layer):
            return owner.name
        frame = frame.f_back
    return ""
