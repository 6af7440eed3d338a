"""Softplus of large numbers.

In a file it is log(1 + exp(x)), and exp(89) is more than float32 can represent.
"""

from __future__ import annotations

import tensorflow as tf

from ..._keras import keras
from ...graph import calls
from ...layers import FakeQuantization

# Of more, softplus is the number itself in float32, and far less than exp can bear.
_LARGE = 80.0


def bound_softplus(model: keras.Model) -> keras.Model:
    """Writes softplus so that files compute it of any number.

    Not those of int8, where the converter would round its input to the range that is
    noted for its output.

    Arguments:
        model: A prepared model, whose layers are changed in place.
    """
    layers = [layer for call in calls(model) for layer in call.layer._flatten_layers()]
    if any(isinstance(layer, FakeQuantization) for layer in layers):
        return model
    for layer in layers:
        for name in ("activation", "last"):
            if vars(layer).get(name) is keras.activations.softplus:
                setattr(layer, name, bounded_softplus)
    return model


def bounded_softplus(x: tf.Tensor) -> tf.Tensor:
    """log(1 + exp(x)), with an exp of 80 at most."""
    return tf.maximum(x, tf.math.softplus(tf.minimum(x, _LARGE)))
