"""What networks share whose features stay between -1 and 1."""

from __future__ import annotations

import tensorflow as tf

from .._keras import keras
from .._larq import lq
from ._head import logits
from ._parts import Parts


def clip(parts: Parts, x: tf.Tensor, name: str) -> tf.Tensor:
    """The hard tanh of `x`; after a sum or a pool no operation of its own."""
    layer = keras.layers.Activation(lq.activations.hard_tanh, name=f"{name}_clip")
    return parts.apply(layer, x)


def flat_classifier(
    parts: Parts, inputs: tf.Tensor, x: tf.Tensor, classes: int, head: str, name: str
) -> keras.Model:
    """The network whose layer `head` reads every position of the map `x`."""
    x = keras.layers.Flatten(name="flat")(clip(parts, x, "features"))
    return keras.Model(inputs, logits(x, classes, head), name=name)
