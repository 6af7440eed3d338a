"""How images are varied in training, and what is drawn for each.

Every draw is a function of (seed, epoch, example) alone: what an example looks like in
an epoch depends neither on the batch it is in, nor on what was drawn before.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

AUGMENTATIONS = ("none", "crop_flip", "colour", "strong")
# Crop and flip come from whole numbers of their own, see `draw`.
CROP, COLOUR, STRONG = 3, 3, 6


@dataclass(frozen=True)
class Augmentation:
    """How images are varied in training.

    Arguments:
        pad: Pixels added on each side before a crop of the old size.
        flip: Whether half of the images are mirrored left to right.
        reflect: Whether the added pixels mirror the image, and are not black.
        colour: Whether brightness, contrast and saturation vary.
        strong: Whether images are turned and magnified, and lose a square.
    """

    pad: int
    flip: bool
    reflect: bool = False
    colour: bool = False
    strong: bool = False


def draw(augmentation: Augmentation, examples: int, seed: tuple) -> tf.Tensor:
    """Draws what varies every example of a data set.

    Arguments:
        augmentation: Bounds the draws.
        examples: Number of rows.
        seed: Two integers, of which the first is 0 or more.

    Returns:
        Rows (top, left, mirrored): integers in [0, 2 pad], [0, 2 pad] and [0, 1]. With
        colours, three more of 32 random bits; if it is strong, then six more.
    """
    bits = _bits((examples, CROP), seed)
    offsets = 2 * augmentation.pad + 1
    # The bias of the remainder is below 1e-8 for these few values.
    rows = tf.math.floormod(bits, [offsets, offsets, 2 if augmentation.flip else 1])
    further = COLOUR * augmentation.colour + STRONG * augmentation.strong
    if not further:
        return rows
    # No seed that a user gives is negative, so no other stream begins there.
    return tf.concat([rows, _bits((examples, further), (-1 - seed[0], seed[1]))], 1)


def uniform(bits: tf.Tensor) -> tf.Tensor:
    """Random bits as float32 numbers in [0, 1), of 24 bits each."""
    return tf.cast(tf.bitwise.bitwise_and(bits, 0xFFFFFF), tf.float32) / 2**24


def _bits(shape: tuple[int, int], seed: tuple) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, None, None, tf.int32, alg="philox")
