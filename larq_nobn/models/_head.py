"""How networks end."""

from __future__ import annotations

import tensorflow as tf

from .._keras import keras


def classifier(inputs: tf.Tensor, x: tf.Tensor, classes: int, name: str) -> keras.Model:
    """The network that averages the map `x` and ends in the dense layer `head`."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(classes, name="head", dtype="float32")(x)
    return keras.Model(inputs, logits, name=name)
