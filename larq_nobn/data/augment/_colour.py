"""Random brightness, contrast and saturation."""

from __future__ import annotations

import tensorflow as tf

from .._area import LUMA

# Factors lie in [1 - this, 1 + this).
_STRENGTH = 0.4


def jittered(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    r"""Varies the light of a batch, each image by its own row of `uniform`.

    \[ b = f_1 x, \quad c = m + f_2 (b - m), \quad y = g(c) + f_3 (c - g(c)) \]

    with factors f in [0.6, 1.4), the mean brightness m of the image b and the
    brightness g of a pixel, cut off below 0 and above 255. Grey images have no
    saturation, so the third step is left out.

    Arguments:
        images: (N, height, width, channels), values from 0 to 255.
        uniform: (N, 3), in [0, 1).

    Returns:
        Images of the same shape, float32.
    """
    factors = 1 - _STRENGTH + 2 * _STRENGTH * uniform
    first, second, third = (f[:, None, None] for f in tf.split(factors, 3, 1))
    mean = first * _mean_brightness(images)
    x = mean + second * (tf.cast(images, tf.float32) * first - mean)
    if images.shape[-1] == 3:
        red, green, blue = tf.split(x * [w / 1000 for w in LUMA], 3, -1)
        grey = red + green + blue
        x = grey + third * (x - grey)
    return tf.clip_by_value(x, 0.0, 255.0)


def _mean_brightness(images: tf.Tensor) -> tf.Tensor:
    """(N, 1, 1, 1); summed in whole numbers, which no order of adding changes."""
    weights = LUMA if images.shape[-1] == 3 else (sum(LUMA),)
    values = images if images.dtype.is_integer else tf.round(images)
    sums = tf.reduce_sum(tf.cast(values, tf.int64) * weights, (1, 2, 3), keepdims=True)
    pixels = images.shape[1] * images.shape[2] * sum(LUMA)
    return tf.cast(sums / pixels, tf.float32)
