"""How networks end."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from .._keras import keras
from ..layers import SymmetricHead

HEADS: dict[str, Callable[..., keras.layers.Layer]] = {
    "dense": keras.layers.Dense,
    "symmetric": SymmetricHead,
}


def logits(x: tf.Tensor, classes: int, head: str) -> tf.Tensor:
    """What the layer `head`, of one of the kinds in `HEADS`, makes of vectors."""
    kind = HEADS[head]
    return kind(classes, name="head", dtype="float32")(x)


def classifier(
    inputs: tf.Tensor, x: tf.Tensor, classes: int, head: str, name: str
) -> keras.Model:
    """The network that averages the map `x` and ends in the layer `head`."""
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, logits(x, classes, head), name=name)
