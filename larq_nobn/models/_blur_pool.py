"""A fixed blur of each channel that halves a feature map without aliasing."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras, register


@register()
class BlurKernel(keras.initializers.Initializer):
    """Depthwise 3x3 kernels of binomial weights, whose sum is 1."""

    def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        row = np.array([1.0, 2.0, 1.0]) / 4
        kernel = np.outer(row, row)[:, :, None, None]
        return tf.constant(np.broadcast_to(kernel, shape), dtype or "float32")


def blur_pool(name: str) -> keras.layers.Layer:
    """Returns a depthwise convolution of stride 2 whose kernel is not trained."""
    return keras.layers.DepthwiseConv2D(
        3,
        2,
        padding="same",
        use_bias=False,
        depthwise_initializer=BlurKernel(),
        trainable=False,
        name=name,
    )
