"""What networks share whose features stay between -1 and 1."""

from __future__ import annotations

import tensorflow as tf

from .._keras import keras
from .._larq import lq
from ._frame import Frame
from ._parts import Parts


def clip(parts: Parts, x: tf.Tensor, name: str) -> tf.Tensor:
    """The hard tanh of `x`; after a sum or a pool no operation of its own."""
    layer = keras.layers.Activation(lq.activations.hard_tanh, name=f"{name}_clip")
    return parts.apply(layer, x)


def flat_classifier(
    frame: Frame, parts: Parts, image: tf.Tensor, x: tf.Tensor
) -> keras.Model:
    """The network whose layer `head` reads every position of the map `x`."""
    x = keras.layers.Flatten(name="flat")(clip(parts, x, "features"))
    return frame.of_vectors(image, x)
