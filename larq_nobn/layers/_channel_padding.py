from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import Configured, keras, register


@register()
class ChannelPadding(Configured, keras.layers.Layer):
    """Puts so many channels of zeros before and after those of a feature map."""

    _in_config = "before after"

    def __init__(self, before: int, after: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.before, self.after = before, after

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Not tf.pad: of a padded map plus a convolution with a bias, whose own padding
        # is not zero, TensorFlow 2.21 makes one kernel for CPUs that crashes.
        sizes = tf.shape(inputs)[:-1]
        first, last = (
            tf.zeros(tf.concat([sizes, [count]], 0), inputs.dtype)
            for count in (self.before, self.after)
        )
        return tf.concat([first, inputs, last], -1)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        *others, channels = tuple(input_shape)
        return tf.TensorShape([*others, self.before + channels + self.after])
