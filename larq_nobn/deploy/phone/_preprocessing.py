"""What a phone does with a picture before a network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..._checks import check_integer, check_number
from ...data._area import scaled


@dataclass(frozen=True)
class Preprocessing:
    r"""Turns a picture of any size into the normalized image a network was trained on.

    \[ y = \frac{x / 255 - \mathrm{mean}}{\mathrm{std}} \]

    where x is the mean of the bytes that a pixel of the small image touches in the
    middle part of the picture. That part is the largest of the image's proportions, or
    `crop` of it. A network of one channel gets the brightness,
    (299 R + 587 G + 114 B) / 1000. Means are quotients of whole numbers, and the rest
    is one multiplication and one subtraction in float32, as in training: a phone that
    does the same gets the same numbers, bit for bit, and so does an evaluation by
    `larq_nobn.data.load`.

    Arguments:
        mean: Mean of each channel in [0, 1]: red, green and blue, or one of grey.
        std: Standard deviation of each channel, above 0.
        size: Height and width of the image.
        crop: Share of the middle part that is looked at, per side, in (0, 1].

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If it is out of range.

    Example:
        ```python
        import numpy as np
        import larq_nobn as nobn

        info = nobn.data.describe("cifar10")
        prepare = nobn.deploy.Preprocessing(info.mean, info.std, size=(32, 32))
        prepare(np.zeros((480, 640, 3), np.uint8)).shape  # (1, 32, 32, 3)
        ```
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    crop: float = 1.0

    def __post_init__(self) -> None:
        mean = _numbers("mean", self.mean, "[0, 1]", "It is that of values / 255.")
        std = _numbers("std", self.std, "(0, inf)", "Leave out constant channels.")
        if len(mean) != len(std):
            raise ValueError(
                f"mean={mean} and std={std} differ in length. Give one number per "
                "channel in each."
            )
        crop = check_number("crop", self.crop, "(0, 1]", "1.0 takes the whole middle.")
        for name, value in (("mean", mean), ("std", std), ("crop", crop)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "size", _size(self.size))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what a network gets."""
        return (*self.size, len(self.mean))

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Returns a float32 batch (N, height, width, channels).

        Arguments:
            pictures: Bytes, (N, height, width, channels), or one picture without N.
                Three channels become one where the network wants grey.

        Raises:
            TypeError: If they are not bytes.
            ValueError: If they have another shape, or no pixel.
        """
        batch, channels = _batch(pictures), len(self.mean)
        if batch.shape[-1] != channels and (batch.shape[-1], channels) != (3, 1):
            raise ValueError(
                f"pictures of {batch.shape[-1]} channels, but the network takes "
                f"{channels}. Convert them to RGB."
            )
        x = scaled(batch, self.size, channels, self.crop)
        std = np.array(self.std, np.float32)
        return x * (1 / (255 * std)) - np.array(self.mean, np.float32) / std


def _batch(pictures: np.ndarray) -> np.ndarray:
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8:
        raise TypeError(
            f"pictures of type {pictures.dtype} are no bytes. Pass uint8 values from 0 "
            "to 255, as decoders of JPEG and PNG give them."
        )
    batch = pictures[np.newaxis] if pictures.ndim == 3 else pictures
    if batch.ndim != 4 or 0 in batch.shape[1:]:
        raise ValueError(
            f"pictures of shape {pictures.shape}: pass (height, width, channels) or "
            "(N, height, width, channels), with no side of 0."
        )
    return batch


def _numbers(
    name: str, values: Sequence[float], interval: str, advice: str
) -> tuple[float, ...]:
    if isinstance(values, str) or not np.iterable(values):
        raise TypeError(
            f"{name}={values!r} is not a list of numbers. Give one per channel."
        )
    numbers = tuple(check_number(name, value, interval, advice) for value in values)
    if len(numbers) not in (1, 3):
        raise ValueError(
            f"{name}={numbers} has {len(numbers)} numbers. Give three for RGB, or one "
            "for grey."
        )
    return numbers


def _size(size: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise TypeError(
            f"size={size!r} is not a pair. Give height and width, such as (32, 32)."
        )
    advice = "It is the network's height and width."
    height, width = (check_integer("size", side, 1, advice) for side in size)
    return height, width
