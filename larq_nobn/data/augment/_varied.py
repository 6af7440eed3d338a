"""Which variation images get, and all of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import tensorflow as tf

from ._augmentation import COLOUR, CROP, Augmentation, uniform
from ._colour import jittered
from ._crop import crop_and_flip
from ._strong import warped, with_holes

# Digits have no mirror images.
_NEVER_MIRRORED = ("digits", "mnist")


def usual(name: str, image_shape: Sequence[int]) -> Augmentation:
    """Crops after a border of an eighth of the shorter side, and mirror images."""
    pad = max(1, round(min(image_shape[:2]) / 8))
    return Augmentation(pad=pad, flip=name not in _NEVER_MIRRORED)


def variation_of(
    augment: str | bool, name: str, image_shape: Sequence[int], reflect: bool
) -> Augmentation | None:
    """What an argument `augment` means for a data set; None for no variation.

    Arguments:
        augment: True for what is usual, or one of `AUGMENTATIONS`.
        name: The data set.
        image_shape: Height, width and channels.
        reflect: Whether borders mirror the image.
    """
    if augment is False or augment == "none":
        return None
    found = replace(usual(name, image_shape), reflect=reflect)
    if augment is True:
        return found
    light, strong = augment in ("colour", "strong"), augment == "strong"
    return replace(found, flip=True, colour=light, strong=strong)


def varied(images: tf.Tensor, draws: tf.Tensor, variation: Augmentation) -> tf.Tensor:
    """Varies a batch, each image by its own row of `draws`.

    Arguments:
        images: (N, height, width, channels), values from 0 to 255.
        draws: (N, columns), rows as `draw` gives them.
        variation: The one that the draws were made for.
    """
    images = crop_and_flip(images, draws[:, :CROP], variation)
    if variation.colour:
        images = jittered(images, uniform(draws[:, CROP : CROP + COLOUR]))
    if variation.strong:
        numbers = uniform(draws[:, -6:])
        images = with_holes(warped(images, numbers[:, :4]), numbers[:, 4:])
    return images
