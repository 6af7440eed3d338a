"""How training images are varied.

Every draw is a function of (seed, epoch, example) alone: how an image looks in an epoch
depends neither on its batch nor on earlier draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin, tan
from typing import Any

import numpy as np
import tensorflow as tf

from ._area import LUMA

# Columns of random numbers beside crop and flip, which have three of their own.
_FURTHER = {"strong": 9, "random_resized_crop": 4, "randaugment": 4}
_CROP = 3


@dataclass(frozen=True)
class Transform:
    """How training images are varied, as functions of random numbers alone.

    Arguments:
        augment: One of `AUGMENTATIONS`.
        flip: Whether half of the images are mirrored.
        reflect: Whether pixels that are added mirror the image, and are not black.
        mixup: Mixes pairs of images by Beta(mixup, mixup); 0 does not.
        cutmix: Puts parts of images into others by Beta(cutmix, cutmix); 0 does not.
    """

    augment: str = "none"
    flip: bool = False
    reflect: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether labels become probabilities."""
        return bool(self.mixup or self.cutmix)

    def draw(self, examples: int, seed: tuple, shape: Sequence[int]) -> tf.Tensor:
        """Draws what varies every example of a data set, from a seed of two integers.

        Rows are (top, left, mirrored): integers in [0, 2 pad], [0, 2 pad] and [0, 1].
        Further ones are 32 random bits.
        """
        bits = random_bits((examples, _CROP), seed, tf.int32)
        offsets = 2 * padding(shape) + 1
        # The bias of the remainder is below 1e-8 for these few values.
        rows = tf.math.floormod(bits, [offsets, offsets, 2 if self.flip else 1])
        # No seed that a user gives is negative, so no other stream starts there.
        further = (examples, _FURTHER.get(self.augment, 0))
        others = random_bits(further, (-1 - seed[0], seed[1]), tf.int32)
        return tf.concat([rows, others], 1)

    def parts(self, draws: tf.Tensor) -> tf.Tensor | None:
        r"""Returns which part of each image is seen, (N, 4), if it is a random one.

        \[ h = \min(1, \sqrt{a / r}), \quad w = \min(1, \sqrt{a r}) \]

        of the largest part that has the proportions of the result, with an area a from
        0.08 to 1 and the logarithm of r between those of 3/4 and 4/3, as in Inception;
        and its place, from the top and left (0) to the bottom and right (1).

        References:
            C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015,
            arXiv:1409.4842.

        Differences from the paper:
            None known.
        """
        if self.augment != "random_resized_crop":
            return None
        area, ratio, top, left = tf.split(uniform(draws[:, _CROP:]), 4, 1)
        area, ratio = 0.08 + 0.92 * area, (4 / 3) ** (2 * ratio - 1)
        sides = tf.sqrt(tf.concat([area / ratio, area * ratio], 1))
        return tf.concat([tf.minimum(sides, 1.0), top, left], 1)

    def vary(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Varies values from 0 to 255, each image by its own row of `draws`."""
        if self.augment != "none":
            pad = 0 if self.augment == "random_resized_crop" else None
            images = crop_and_flip(images, draws[:, :_CROP], pad, self.reflect)
        numbers = uniform(draws[:, _CROP:])
        if self.augment == "strong":
            factors = 1 - _STRENGTH + 2 * _STRENGTH * numbers[:, :3]
            images = jittered(images, factors)
            images = cutout(random_affine(images, numbers[:, 3:7]), numbers[:, 7:])
        if self.augment == "randaugment":
            images = tf.cast(tf.round(tf.cast(images, tf.float32)), tf.uint8)
            given, shape = [images, numbers], images.shape
            images = tf.numpy_function(random_operations, given, images.dtype, False)
            images = tf.ensure_shape(images, shape)
        return images

    def draw_mix(self, examples: int, seed: tuple) -> tf.Tensor:
        """Draws how each example is mixed: see `mixed`."""
        # Streams that nothing else starts.
        seeds = [tf.cast(part, tf.int64) for part in seed]
        own, others = (-1 - seeds[0], -1 - seeds[1]), (seeds[0], -1 - seeds[1])
        if not self.cutmix:
            return mix_weights(self.mixup, examples, own)[:, None]
        numbers = uniform(random_bits((examples, 3), others, tf.int32))
        # With both, half of the examples get either.
        cut = numbers[:, 2:] < (0.5 if self.mixup else 1.0)
        alpha = tf.where(tf.repeat(cut, 2, 1), self.cutmix, self.mixup or 1.0)
        weights = mix_weights(alpha, examples, own)[:, None]
        return tf.concat([weights, tf.cast(cut, tf.float32), numbers[:, :2]], 1)


def padding(shape: Sequence[int]) -> int:
    """Pixels that are added on each side before a crop of the old size."""
    return max(1, round(min(shape[:2]) / 8))


def uniform(bits: tf.Tensor) -> tf.Tensor:
    """Random bits as float32 numbers in [0, 1), of 24 bits each."""
    return tf.cast(tf.bitwise.bitwise_and(bits, 0xFFFFFF), tf.float32) / 2**24


def random_bits(shape: Sequence[int], seed: tuple, dtype: tf.DType) -> tf.Tensor:
    """Random integers of all bits, from a seed of two integers."""
    return tf.random.stateless_uniform(shape, seed, None, None, dtype, alg="philox")


def crop_and_flip(
    images: tf.Tensor, draws: tf.Tensor, pad: int | None = None, reflect: bool = False
) -> tf.Tensor:
    """Pads, crops and mirrors a batch of any type, each image by its row of `draws`.

    `pad` is an eighth of the shorter side by default; 0 only mirrors.
    """
    height, width = images.shape[1:3]
    pad = padding(images.shape[1:]) if pad is None else pad
    top, left, mirrored = tf.split(draws, 3, axis=1)
    across = tf.range(width)
    columns = tf.where(mirrored == 1, width - 1 - across, across)
    if pad:
        mode = "REFLECT" if reflect else "CONSTANT"
        images = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]], mode)
        # Two gathers that copy bytes: several times cheaper than one crop per image.
        images = tf.gather(images, top + tf.range(height), batch_dims=1)
        columns += left
    return tf.gather(images, columns, axis=2, batch_dims=1)


# Factors lie in [1 - this, 1 + this).
_STRENGTH = 0.4


def jittered(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    r"""Varies the light of a batch, each image by its own row of `factors`, (N, 3).

    \[ b = f_1 x, \quad c = m + f_2 (b - m), \quad y = g(c) + f_3 (c - g(c)) \]

    with the mean brightness m of the image b and the brightness g of a pixel, cut off
    below 0 and above 255. Gray images have no saturation, so the third step is left
    out.
    """
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
    return tf.where(_rectangle(sides, uniform, (half, half)), _GREY, images)


def _rectangle(
    sides: Sequence[int], middles: tf.Tensor, halves: Sequence[Any]
) -> tf.Tensor:
    """Returns which pixels are inside of rectangles, (N, height, width, 1).

    Middles are (N, 2), fractions of the sides; halves of the heights and of the widths
    are pixels, one for all or (N, 1).
    """
    rows, columns = (
        tf.abs(tf.range(side, dtype=tf.float32) + 0.5 - side * middle) < half
        for side, middle, half in zip(
            sides, tf.split(middles, 2, 1), halves, strict=True
        )
    )
    return rows[:, :, None, None] & columns[:, None, :, None]


def random_operations(images: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Does two of Pillow's operations to each image of bytes, after RandAugment.

    `uniform` is (N, 4), in [0, 1): an operation and its strength, twice.

    References:
        E. D. Cubuk, B. Zoph, J. Shlens, Q. V. Le, "RandAugment: Practical automated
        data augmentation with a reduced search space", 2019, arXiv:1909.13719.

    Differences from the paper:
        Strengths are uniform, and not one for all.
    """
    from PIL import Image

    results = []
    for pixels, numbers in zip(images, uniform, strict=True):
        image = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
        for number, strength in numbers.reshape(2, 2).tolist():
            image = _operated(image, number, 2 * strength - 1)
        results.append(np.asarray(image))
    return np.array(results, np.uint8).reshape(images.shape)


def _operated(image: Any, number: float, s: float) -> Any:
    """Does the operation of a number in [0, 1) with a strength s from -1 to 1."""
    from PIL import Image, ImageEnhance, ImageOps

    def mapped(*rows: float) -> Image.Image:
        kind, between = Image.Transform.AFFINE, Image.Resampling.BILINEAR
        gray = (128,) * len(image.getbands())
        return image.transform(image.size, kind, rows, between, fillcolor=gray)

    width, height = image.size
    x, y = (width - 1) / 2, (height - 1) / 2
    c, d, factor = cos(s * pi / 6), sin(s * pi / 6), 1 + 0.9 * s
    operations: tuple[Callable[[], Image.Image], ...] = (
        lambda: image,
        lambda: ImageOps.autocontrast(image),
        lambda: ImageOps.equalize(image),
        lambda: ImageOps.posterize(image, 8 - round(4 * abs(s))),
        lambda: ImageOps.solarize(image, round(256 * (1 - abs(s)))),
        lambda: ImageEnhance.Brightness(image).enhance(factor),
        lambda: ImageEnhance.Contrast(image).enhance(factor),
        lambda: ImageEnhance.Color(image).enhance(factor),
        lambda: ImageEnhance.Sharpness(image).enhance(factor),
        lambda: mapped(c, d, x - c * x - d * y, -d, c, y + d * x - c * y),
        lambda: mapped(1, 0.3 * s, -0.3 * s * y, 0, 1, 0),
        lambda: mapped(1, 0, 0, 0.3 * s, 1, -0.3 * s * x),
        lambda: mapped(1, 0, 0.3 * s * width, 0, 1, 0),
        lambda: mapped(1, 0, 0, 0, 1, 0.3 * s * height),
    )
    return operations[int(number * len(operations))]()


def mix_weights(alpha: Any, examples: int, seed: tuple) -> tf.Tensor:
    """Draws from Beta(α, α) how much of itself each example keeps, (N,) in [0, 1]."""
    # Beta by two draws of Gamma.
    gamma = tf.random.stateless_gamma((examples, 2), seed, alpha)
    total = tf.reduce_sum(gamma, 1)
    # Of a small α both may be 0 in float32: then the example stays what it is.
    return tf.where(total > 0, tf.math.divide_no_nan(gamma[:, 0], total), 1.0)


def mixed(
    images: tf.Tensor, labels: tf.Tensor, draws: tf.Tensor, classes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Mixes each example of a batch with the one before it, the first with the last.

    \[ \tilde x_i = \lambda_i x_i + (1 - \lambda_i) x_{i-1}, \quad
       \tilde y_i = \lambda_i y_i + (1 - \lambda_i) y_{i-1} \]

    Draws are (N, 1), λ; or, with CutMix, (N, 4): λ; whether λ is that of pixels, 0
    inside of a rectangle of the area 1 - λ that is cut at the border, and that of
    labels its mean; and the middle of the rectangle, from top and left. Labels become
    probabilities (N, classes).

    References:
        H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical Risk
        Minimization", ICLR 2018, arXiv:1710.09412.
        S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe, Y. Yoo, "CutMix: Regularization
        Strategy to Train Strong Classifiers", ICCV 2019, arXiv:1905.04899.

    Differences from the papers:
        Each example has a λ of its own, and not each batch.
    """
    images, sides = tf.cast(images, tf.float32), images.shape[1:3]
    weight = draws[:, :1]
    wide = weight[..., None, None]
    if draws.shape[1] > 1:
        cut = draws[:, 1:2] > 0
        halves = [side / 2 * tf.sqrt(1 - weight) for side in sides]
        kept = 1 - tf.cast(_rectangle(sides, draws[:, 2:], halves), tf.float32)
        wide = tf.where(cut[..., None, None], kept, wide)
        weight = tf.where(cut, tf.reduce_mean(kept, (1, 2)), weight)
    images = wide * images + (1 - wide) * tf.roll(images, 1, 0)
    hot = tf.one_hot(labels, classes)
    return images, weight * hot + (1 - weight) * tf.roll(hot, 1, 0)
