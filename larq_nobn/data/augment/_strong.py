"""Random rotations, magnifications and holes."""

from __future__ import annotations

from math import pi, tan

import tensorflow as tf

_LARGEST_ANGLE = 15 * pi / 180
_SMALLEST_PART = 0.7
_HOLE = 0.25
_GREY = 127.5


def warped(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Turns and magnifies a batch, each image by its own row of `uniform`.

    A pixel of the result is a point of the given image, linearly between its pixels,
    and beyond its border that of its mirror image. The part that is seen has 70 to 100
    % of each side, is turned by up to 15 degrees and lies within the image as far as
    its middle is concerned.

    Arguments:
        images: (N, height, width, channels), values from 0 to 255.
        uniform: (N, 4), in [0, 1): angle, size, and place from top and left.

    Returns:
        Images of the same shape, float32.
    """
    height, width = images.shape[1:3]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    angle, size, top, left = tf.unstack(uniform, axis=1)
    # By half of the angle, sine and cosine are quotients: of those every bit is sure.
    half = (2 * angle - 1) * tan(_LARGEST_ANGLE / 2)
    scale = _SMALLEST_PART + (1 - _SMALLEST_PART) * size
    cosine = scale * (1 - half * half) / (1 + half * half)
    sine = scale * 2 * half / (1 + half * half)
    y = middle_y * (1 + (1 - scale) * (2 * top - 1))
    x = middle_x * (1 + (1 - scale) * (2 * left - 1))
    nought = tf.zeros_like(x)
    rows = [
        *(cosine, -sine, x - cosine * middle_x + sine * middle_y),
        *(sine, cosine, y - sine * middle_x - cosine * middle_y),
        *(nought, nought),
    ]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack(rows, 1),
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def with_holes(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Makes a square of a quarter of the shorter side grey, after Cutout.

    Arguments:
        images: (N, height, width, channels), float32.
        uniform: (N, 2), in [0, 1): the middle of the square, from top and left.

    References:
        T. DeVries, G. Taylor, "Improved Regularization of Convolutional Neural Networks
        with Cutout", 2017, arXiv:1708.04552.
    """
    sides = images.shape[1:3]
    half = _HOLE * min(sides) / 2
    inside = [
        tf.abs(tf.range(side, dtype=tf.float32) + 0.5 - side * middle) < half
        for side, middle in zip(sides, tf.split(uniform, 2, 1), strict=True)
    ]
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return tf.where(hole, _GREY, images)
