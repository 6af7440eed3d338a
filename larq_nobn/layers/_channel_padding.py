from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import Configured, keras, register


@register()
class ChannelPadding(Configured, keras.layers.Layer):
    """Adds `before` and `after` channels of zeros at the ends of a feature map."""

    _in_config = "before after"

    def __init__(self, before: int, after: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.before, self.after = before, after

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Not tf.pad: TensorFlow 2.21 fuses the sum of a padded map and a biased
        # convolution with nonzero padding into one CPU kernel, which crashes.
        sizes = tf.shape(inputs)[:-1]
        first, last = (
            tf.zeros(tf.concat([sizes, [count]], 0), inputs.dtype)
            for count in (self.before, self.after)
        )
        return tf.concat([first, inputs, last], -1)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        *others, channels = tuple(input_shape)
        return tf.TensorShape([*others, self.before + channels + self.after])
