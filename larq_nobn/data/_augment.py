"""How training images are varied.

Every draw is a function of (seed, epoch, example) alone: how an image looks in an epoch
depends neither on its batch nor on earlier draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, tan

import tensorflow as tf

from ._area import LUMA

# Crop and flip come from whole numbers of their own, see `draw`.
CROP, COLOUR, STRONG = 3, 3, 6


@dataclass(frozen=True)
class Augmentation:
    """How images are varied in training."""

    pad: int  # pixels added on each side before a crop of the old size
    flip: bool  # half of the images are mirrored
    reflect: bool = False  # added pixels mirror the image, and are not black
    colour: bool = False  # brightness, contrast and saturation vary
    strong: bool = False  # images are turned and magnified, and lose a square


def draw(augmentation: Augmentation, examples: int, seed: tuple) -> tf.Tensor:
    """Draws what varies every example of a data set, from a seed of two integers.

    Rows are (top, left, mirrored): integers in [0, 2 pad], [0, 2 pad] and [0, 1]. With
    colours, three more of 32 random bits; if it is strong, then six more.
    """
    bits = random_bits((examples, CROP), seed, tf.int32)
    offsets = 2 * augmentation.pad + 1
    # The bias of the remainder is below 1e-8 for these few values.
    rows = tf.math.floormod(bits, [offsets, offsets, 2 if augmentation.flip else 1])
    further = COLOUR * augmentation.colour + STRONG * augmentation.strong
    # No seed that a user gives is negative, so no other stream starts there.
    others = random_bits((examples, further), (-1 - seed[0], seed[1]), tf.int32)
    return tf.concat([rows, others], 1)


def uniform(bits: tf.Tensor) -> tf.Tensor:
    """Random bits as float32 numbers in [0, 1), of 24 bits each."""
    return tf.cast(tf.bitwise.bitwise_and(bits, 0xFFFFFF), tf.float32) / 2**24


def random_bits(shape: Sequence[int], seed: tuple, dtype: tf.DType) -> tf.Tensor:
    """Random integers of all bits, from a seed of two integers."""
    return tf.random.stateless_uniform(shape, seed, None, None, dtype, alg="philox")


# Digits have no mirror images.
_NEVER_MIRRORED = ("digits", "mnist")


def variation_of(
    augment: str | bool, name: str, image_shape: Sequence[int], reflect: bool
) -> Augmentation | None:
    """What an argument `augment` means for a data set; None for no variation."""
    if augment is False or augment == "none":
        return None
    return Augmentation(
        pad=max(1, round(min(image_shape[:2]) / 8)),
        flip=augment is not True or name not in _NEVER_MIRRORED,
        reflect=reflect,
        colour=augment in ("colour", "strong"),
        strong=augment == "strong",
    )


def varied(images: tf.Tensor, draws: tf.Tensor, variation: Augmentation) -> tf.Tensor:
    """Varies a batch of values from 0 to 255, each image by its own row of `draws`."""
    images = crop_and_flip(images, draws[:, :CROP], variation)
    if variation.colour:
        images = jittered(images, uniform(draws[:, CROP : CROP + COLOUR]))
    if variation.strong:
        numbers = uniform(draws[:, -6:])
        images = cutout(random_affine(images, numbers[:, :4]), numbers[:, 4:])
    return images


def crop_and_flip(
    images: tf.Tensor, draws: tf.Tensor, augmentation: Augmentation
) -> tf.Tensor:
    """Pads, crops and mirrors a batch of any type, each image by its row of `draws`."""
    height, width = images.shape[1:3]
    pad = augmentation.pad
    mode = "REFLECT" if augmentation.reflect else "CONSTANT"
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]], mode)
    top, left, mirrored = tf.split(draws, 3, axis=1)
    across = tf.range(width)
    rows = top + tf.range(height)
    columns = left + tf.where(mirrored == 1, width - 1 - across, across)
    # Two gathers that copy bytes: several times cheaper than one crop per image.
    cropped = tf.gather(padded, rows, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)


# Factors lie in [1 - this, 1 + this).
_STRENGTH = 0.4


def jittered(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    r"""Varies the light of a batch, each image by its own row of `uniform`.

    \[ b = f_1 x, \quad c = m + f_2 (b - m), \quad y = g(c) + f_3 (c - g(c)) \]

    with factors f in [0.6, 1.4), the mean brightness m of the image b and the
    brightness g of a pixel, cut off below 0 and above 255. Grey images have no
    saturation, so the third step is left out. `uniform` is (N, 3), in [0, 1).
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


_LARGEST_ANGLE = 15 * pi / 180
_SMALLEST_PART = 0.7
_HOLE = 0.25
_GREY = 127.5


def random_affine(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Turns and magnifies a batch, each image by its own row of `uniform`.

    A pixel of the result is a point of the given image, linearly between its pixels,
    and beyond its border that of its mirror image. The part that is seen has 70 to 100
    % of each side, is turned by up to 15 degrees and lies within the image as far as
    its middle is concerned. `uniform` is (N, 4), in [0, 1): angle, size, and place from
    top and left.
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=affine_maps(images.shape[1:3], uniform),
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def affine_maps(sides: Sequence[int], uniform: tf.Tensor) -> tf.Tensor:
    """Affine maps from pixels of the result to points of the image of these sides.

    (N, 8): rows r with x' = r₀x + r₁y + r₂, y' = r₃x + r₄y + r₅, and two zeros.
    """
    height, width = sides
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
    return tf.stack(rows, 1)


def cutout(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Makes a square of a quarter of the shorter side grey, after Cutout.

    `uniform` is (N, 2), in [0, 1): the middle of the square, from top and left.

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


def mixup_weights(alpha: float, examples: int, seed: tuple) -> tf.Tensor:
    """Draws from Beta(α, α) how much of itself each example keeps, (N,) in [0, 1]."""
    # Beta by two draws of Gamma, from a stream that nothing else starts.
    seed = (-1 - tf.cast(seed[0], tf.int64), -1 - tf.cast(seed[1], tf.int64))
    gamma = tf.random.stateless_gamma((examples, 2), seed, alpha)
    total = tf.reduce_sum(gamma, 1)
    # Of a small α both may be 0 in float32: then the example stays what it is.
    return tf.where(total > 0, tf.math.divide_no_nan(gamma[:, 0], total), 1.0)


def mixed(
    images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, classes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Mixes each example of a batch with the one before it, the first with the last.

    \[ \tilde x_i = \lambda_i x_i + (1 - \lambda_i) x_{i-1}, \quad
       \tilde y_i = \lambda_i y_i + (1 - \lambda_i) y_{i-1} \]

    with one λ of `weights` for each. Labels become probabilities (N, classes).

    References:
        H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical Risk
        Minimization", ICLR 2018, arXiv:1710.09412.

    Differences from the paper:
        Each example has a λ of its own, and not each batch.
    """
    images = tf.cast(images, tf.float32)
    wide = weights[:, None, None, None]
    images = wide * images + (1 - wide) * tf.roll(images, 1, 0)
    hot, weights = tf.one_hot(labels, classes), weights[:, None]
    return images, weights * hot + (1 - weights) * tf.roll(hot, 1, 0)
