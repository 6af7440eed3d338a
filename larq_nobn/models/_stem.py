"""The first convolution of residual networks and of VGG."""

from __future__ import annotations

import tensorflow as tf

from .._keras import keras
from ._offset import lifted
from ._parts import LARGE, Parts


def stem(
    parts: Parts,
    x: tf.Tensor,
    width: int,
    activation: keras.layers.Layer | None = None,
    added: bool = True,
) -> tf.Tensor:
    """From 64 pixels on the convolution for ImageNet, which quarters.

    That is 7x7 with stride 2 and max pooling, and below 64 pixels 3x3 alone. An
    activation stands after the normalization. `added` says whether branches are added
    to it.
    """
    large = min(x.shape[1:3]) >= LARGE
    size, strides, pool = (7, 2, 3) if large else (3, 1, 1)
    x = parts.float_conv(x, width, size, strides, "stem", normalized=False, pool=pool)
    x = parts.beside(x, "stem") if added else parts.normalize(x, "stem")
    x = lifted(x, parts)
    if activation is not None:
        x = parts.apply(activation, x)
    quarter = keras.layers.MaxPool2D(3, 2, padding="same", name="stem_pool")
    return parts.apply(quarter, x) if large else x
