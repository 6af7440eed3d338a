"""Decides which images must not be mirrored, such as digits, letters and signs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ._source import Source

_NUMBERS = "zero|one|two|three|four|five|six|seven|eight|nine"
# Words that a class name may contain in addition to its digit or letter.
_BESIDE = "digit|number|letter|character|char|upper|lower|capital|small|case"
# Threshold of `common_difference`, which is at least 0.2 for digits, and below 0.02 for
# images of objects.
_SAME = 0.05
_EXAMPLES = 5_000


def why_not_mirrored(
    channels: int, names: Sequence[str], source: Source | None
) -> str | None:
    """Returns why images must not be mirrored, in words; None if they may be.

    Arguments:
        channels: Number of channels of the stored images.
        names: Names of the classes.
        source: Training images whose classes have no names; None if they have names.
    """
    if channels == 1:
        return "they have one channel"
    if source is not None:
        images, labels = source.take(tf.range(min(source.length, _EXAMPLES)))
        same = common_difference(images.numpy(), labels.numpy())
        return "classes differ from their mirror images" if same > _SAME else None
    if names and 2 * sum(map(is_symbol, names)) >= len(names):
        return "classes are digits or letters"
    if {"left", "right"} & {word for name in names for word in _words(name)}:
        return "classes are left or right"
    return None


def is_symbol(name: str) -> bool:
    """Returns whether a class is named like a digit or a letter, such as "digit_3"."""
    words = [word for word in _words(name) if not re.fullmatch(_BESIDE, word)]
    return len(words) == 1 and bool(re.fullmatch(rf".|\d+|{_NUMBERS}", words[0]))


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", name.casefold())


def common_difference(images: np.ndarray, labels: np.ndarray) -> float:
    """Returns the fraction of image minus mirror image that a class has in common.

    It is the squared mean over a class, without its random part, over the variance.
    """
    common, varying = 0.0, 1e-12
    for label in np.unique(labels):
        own = images[labels == label].astype(np.float32)
        difference = own - own[:, :, ::-1]
        mean, variance = difference.mean(0), difference.var(0).mean()
        common += len(own) * float((mean * mean).mean()) - float(variance)
        varying += len(own) * float(variance)
    return max(0.0, common) / varying
