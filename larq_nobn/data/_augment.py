"""Augmentation of training images.

Random numbers depend on (seed, epoch, example) alone: the augmented image depends
neither on its batch nor on earlier random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, pi, sin, tan
from typing import Any

import numpy as np
import tensorflow as tf

from ._area import LUMA

# Random numbers of an image in addition to the three for crop and flip.
_FURTHER = {"strong": 9, "random_resized_crop": 4, "randaugment": 4}
_CROP = 3
# Of "strong": factors lie in [1 - this, 1 + this).
_STRENGTH = 0.4
_LARGEST_ANGLE, _SMALLEST_PART, _HOLE, _GREY = 15 * pi / 180, 0.7, 0.25, 127.5


@dataclass(frozen=True)
class Transform:
    """The augmentation of images, as functions of random numbers.

    Arguments:
        augment: One of `AUGMENTATIONS`.
        flip: Whether half of the images are mirrored.
        reflect: Whether crops use reflection padding instead of zeros.
        mixup: Parameter of Beta(mixup, mixup), by which pairs are mixed; 0 for none.
        cutmix: Parameter of Beta(cutmix, cutmix), by which images get a rectangle of
            another image; 0 for none.
    """

    augment: str = "none"
    flip: bool = False
    reflect: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, so that labels become probabilities."""
        return bool(self.mixup or self.cutmix)

    def draw(self, examples: int, seed: tuple, shape: Sequence[int]) -> tf.Tensor:
        """Returns a row of random numbers per example, from a seed of two integers.

        A row starts with (top, left, mirrored): integers in [0, 2 pad], [0, 2 pad] and
        [0, 1]. The other numbers are 32 random bits.
        """
        bits = random_bits((examples, _CROP), seed, tf.int32)
        offsets = 2 * padding(shape) + 1
        # The remainder is biased by less than 1e-8 for so few values.
        rows = tf.math.floormod(bits, [offsets, offsets, 2 if self.flip else 1])
        # Negative seeds are other random streams, since users' seeds are not negative.
        further = (examples, _FURTHER.get(self.augment, 0))
        others = random_bits(further, (-1 - seed[0], seed[1]), tf.int32)
        return tf.concat([rows, others], 1)

    def regions(self, draws: tf.Tensor) -> tf.Tensor | None:
        r"""Returns a random region of each image, (N, 4); None unless one is used.

        \[ h = \min(1, \sqrt{a / r}), \quad w = \min(1, \sqrt{a r}) \]

        are its sides, relative to the largest region with the proportions of the
        result. The area a is uniform in [0.08, 1], and log r between log(3/4) and
        log(4/3), as in Inception. Two uniform numbers follow: its place between top (0)
        and bottom (1), and between left and right.

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
        """Augments images with values from 0 to 255, each by its own row of `draws`."""
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
            inputs, shape = [images, numbers], images.shape
            images = tf.numpy_function(random_operations, inputs, images.dtype, False)
            images = tf.ensure_shape(images, shape)
        return images

    def draw_mix(self, examples: int, seed: tuple) -> tf.Tensor:
        """Returns random numbers for `mixed`, a row per example."""
        # These seeds are random streams of their own.
        seeds = [tf.cast(part, tf.int64) for part in seed]
        own, others = (-1 - seeds[0], -1 - seeds[1]), (seeds[0], -1 - seeds[1])
        if not self.cutmix:
            return mix_weights(self.mixup, examples, own)[:, None]
        numbers = uniform(random_bits((examples, 3), others, tf.int32))
        # With both settings, each example gets one of them, with probability 1/2.
        cut = numbers[:, 2:] < (0.5 if self.mixup else 1.0)
        alpha = tf.where(tf.repeat(cut, 2, 1), self.cutmix, self.mixup or 1.0)
        weights = mix_weights(alpha, examples, own)[:, None]
        return tf.concat([weights, tf.cast(cut, tf.float32), numbers[:, :2]], 1)


def padding(shape: Sequence[int]) -> int:
    """Returns the number of padding pixels per side, before a crop of the old size."""
    return max(1, round(min(shape[:2]) / 8))


def uniform(bits: tf.Tensor) -> tf.Tensor:
    """Returns random bits as float32 numbers in [0, 1), of 24 bits each."""
    return tf.cast(tf.bitwise.bitwise_and(bits, 0xFFFFFF), tf.float32) / 2**24


def random_bits(shape: Sequence[int], seed: tuple, dtype: tf.DType) -> tf.Tensor:
    """Returns random integers of all bits, from a seed of two integers."""
    return tf.random.stateless_uniform(shape, seed, None, None, dtype, alg="philox")


def crop_and_flip(
    images: tf.Tensor, draws: tf.Tensor, pad: int | None = None, reflect: bool = False
) -> tf.Tensor:
    """Pads, crops and mirrors a batch of any type, each image by its row of `draws`.

    `pad` is an eighth of the shorter side by default; with 0, images are only mirrored.
    """
    height, width = images.shape[1:3]
    pad = padding(images.shape[1:]) if pad is None else pad
    top, left, mirrored = tf.split(draws, 3, axis=1)
    across = tf.range(width)
    columns = tf.where(mirrored == 1, width - 1 - across, across)
    if pad:
        mode = "REFLECT" if reflect else "CONSTANT"
        images = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]], mode)
        # Two gathers of bytes are several times faster than one crop per image.
        images = tf.gather(images, top + tf.range(height), batch_dims=1)
        columns += left
    return tf.gather(images, columns, axis=2, batch_dims=1)


def jittered(images: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    r"""Changes brightness, contrast, saturation of images by rows of `factors`, (N, 3).

    \[ b = f_1 x, \quad c = m + f_2 (b - m), \quad y = g(c) + f_3 (c - g(c)) \]

    m is the mean brightness of the image b, and g the brightness of a pixel. Results
    are clipped to [0, 255]. Gray images have no saturation, so the third step is left
    out.
    """
    first, second, third = (f[:, None, None] for f in tf.split(factors, 3, 1))
    weights = LUMA if images.shape[-1] == 3 else (sum(LUMA),)
    values = images if images.dtype.is_integer else tf.round(images)
    # Sums of integers do not depend on the order of addition.
    sums = tf.reduce_sum(tf.cast(values, tf.int64) * weights, (1, 2, 3), keepdims=True)
    pixels = images.shape[1] * images.shape[2] * sum(LUMA)
    mean = first * tf.cast(sums / pixels, tf.float32)
    x = mean + second * (tf.cast(images, tf.float32) * first - mean)
    if images.shape[-1] == 3:
        red, green, blue = tf.split(x * [w / 1000 for w in LUMA], 3, -1)
        grey = red + green + blue
        x = grey + third * (x - grey)
    return tf.clip_by_value(x, 0.0, 255.0)


def random_affine(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Rotates and magnifies a batch, each image by its own row of `uniform`.

    The result shows a region with 70 to 100 % of each side, rotated by up to 15
    degrees, that without the rotation would be inside the image. Pixels are
    interpolated linearly, with mirrored pixels beyond the border. `uniform` is (N, 4),
    in [0, 1): angle, size, and place from top and left.
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
    """Returns affine maps from pixels of the result to points of the image.

    (N, 8): rows r with x' = r₀x + r₁y + r₂, y' = r₃x + r₄y + r₅, and two zeros.
    """
    height, width = sides
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    angle, size, top, left = tf.unstack(uniform, axis=1)
    # Sine and cosine computed from tan(angle / 2) are bitwise reproducible.
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
    """Makes a square gray, as Cutout does; its side is 1/4 of the image's shorter one.

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
    """Returns a mask of the pixels inside rectangles, (N, height, width, 1).

    `middles` (N, 2) are fractions of the sides. `halves` are half the height and width
    in pixels, each one number or (N, 1).
    """
    lines = zip(sides, tf.split(middles, 2, 1), halves, strict=True)
    rows, columns = (
        tf.abs(tf.range(side, dtype=tf.float32) + 0.5 - side * middle) < half
        for side, middle, half in lines
    )
    return rows[:, :, None, None] & columns[:, None, :, None]


def random_operations(images: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Applies two random operations of Pillow to each uint8 image, as RandAugment does.

    `uniform` is (N, 4), in [0, 1): operation and strength, twice.

    References:
        E. D. Cubuk, B. Zoph, J. Shlens, Q. V. Le, "RandAugment: Practical automated
        data augmentation with a reduced search space", 2019, arXiv:1909.13719.

    Differences from the paper:
        Strengths are random, instead of one for all operations.
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
    """Applies the operation that a number in [0, 1) selects; strength s in [-1, 1]."""
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
    """Returns the weight λ of each example in its mix, (N,), drawn from Beta(α, α)."""
    # A Beta variable is a quotient of two Gamma variables.
    gamma = tf.random.stateless_gamma((examples, 2), seed, alpha)
    total = tf.reduce_sum(gamma, 1)
    # For small α both may be 0 in float32: then λ = 1, the example itself.
    return tf.where(total > 0, tf.math.divide_no_nan(gamma[:, 0], total), 1.0)


def mixed(
    images: tf.Tensor, labels: tf.Tensor, draws: tf.Tensor, classes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""Mixes each example of a batch with the one before it, the first with the last.

    \[ \tilde x_i = \lambda_i x_i + (1 - \lambda_i) x_{i-1}, \quad
       \tilde y_i = \lambda_i y_i + (1 - \lambda_i) y_{i-1} \]

    `draws` is (N, 1): λ. With CutMix it is (N, 4): λ; whether this example uses CutMix;
    and the center of a rectangle, from top and left. CutMix replaces a rectangle of
    area 1 - λ, clipped at the border, and mixes labels by the area that is left. Labels
    become probabilities (N, classes).

    References:
        H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, "mixup: Beyond Empirical Risk
        Minimization", ICLR 2018, arXiv:1710.09412.
        S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe, Y. Yoo, "CutMix: Regularization
        Strategy to Train Strong Classifiers", ICCV 2019, arXiv:1905.04899.

    Differences from the papers:
        Each example has its own λ, instead of each batch.
    """
    images, sides = tf.cast(images, tf.float32), images.shape[1:3]
    weight = draws[:, :1]
    wide = weight[..., None, None]
    if draws.shape[1] > 1:
        cut = draws[:, 1:2] > 0
        halves = [side / 2 * tf.sqrt(1 - weight) for side in sides]
        mask = 1 - tf.cast(_rectangle(sides, draws[:, 2:], halves), tf.float32)
        wide = tf.where(cut[..., None, None], mask, wide)
        weight = tf.where(cut, tf.reduce_mean(mask, (1, 2)), weight)
    images = wide * images + (1 - wide) * tf.roll(images, 1, 0)
    hot = tf.one_hot(labels, classes)
    return images, weight * hot + (1 - weight) * tf.roll(hot, 1, 0)
