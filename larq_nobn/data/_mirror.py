"""Which images are something else in a mirror, such as digits, letters and signs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ._source import Source

_NUMBERS = (
    *("zero", "one", "two", "three", "four"),
    *("five", "six", "seven", "eight", "nine"),
)
# Words of a class beside its digit or letter.
_BESIDE = (
    *("digit", "number", "letter", "character", "char"),
    *("upper", "lower", "capital", "small", "case"),
)
# The fraction of a difference between images and their mirror images that all images
# of a class have: 0.2 and more for digits, below 0.02 for images of things.
_SAME = 0.05
_LOOKED_AT = 5_000


def why_not_mirrored(
    channels: int, names: Sequence[str], source: Source | None
) -> str | None:
    """Says why images are not to be mirrored; None if they may be.

    Arguments:
        channels: That images have in their files.
        names: Names of the classes.
        source: Training images whose classes have no names; None where these say it.
    """
    if channels == 1:
        return "they have one channel"
    if source is not None:
        images, labels = source.take(tf.range(min(source.length, _LOOKED_AT)))
        same = common_difference(images.numpy(), labels.numpy())
        return "classes differ from their mirror images" if same > _SAME else None
    if names and 2 * sum(map(is_symbol, names)) >= len(names):
        return "classes are digits or letters"
    if {"left", "right"} & {word for name in names for word in _words(name)}:
        return "classes are left or right"
    return None


def is_symbol(name: str) -> bool:
    """Whether a class is called like a digit, a number or a letter, as in "digit_3"."""
    words = [word for word in _words(name) if word not in _BESIDE]
    return len(words) == 1 and (
        len(words[0]) == 1 or words[0].isdecimal() or words[0] in _NUMBERS
    )


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", name.casefold())


def common_difference(images: np.ndarray, labels: np.ndarray) -> float:
    """Returns how much of images minus mirror images is the mean of their class.

    That is its square, without what chance adds to it, by the variance; from 0.
    """
    common, varying = 0.0, 1e-12
    for label in np.unique(labels):
        own = images[labels == label].astype(np.float32)
        difference = own - own[:, :, ::-1]
        mean, variance = difference.mean(0), difference.var(0).mean()
        common += len(own) * float((mean * mean).mean()) - float(variance)
        varying += len(own) * float(variance)
    return max(0.0, common) / varying
