"""What stands around the binary convolutions that other layers are rewritten as."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ...._keras import keras


class Channels(keras.layers.Layer):
    """Some of the channels of a map.

    Arguments:
        channels: Which.
        **kwargs: Keras layer arguments.
    """

    def __init__(self, channels: slice, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.channels = channels

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "channels": self.channels}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[..., self.channels]


class ConstantLess(keras.layers.Layer):
    """constant - x, where the constant may differ from one position to the next.

    Of `x + constant` LCE would make a bias per channel, and a file that cannot run.

    Arguments:
        constant: (height, width, C).
        **kwargs: Keras layer arguments.
    """

    def __init__(self, constant: np.ndarray, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.constant = tf.constant(constant[None], tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "constant": self.constant[0]}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.constant - inputs


class PlusLast(keras.layers.Layer):
    """All channels but the last, plus the last."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[..., :-1] + inputs[..., -1:]
