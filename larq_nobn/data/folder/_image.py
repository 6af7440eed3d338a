"""A file as an image of some shape."""

from __future__ import annotations

import numpy as np

from .._area import scaled
from ._decode import decode


def image_of(
    content: bytes, shape: tuple[int, int, int], exact: bool, crop: float = 1.0
) -> np.ndarray:
    """Returns what a file shows, of some shape.

    Arguments:
        content: The file.
        shape: Height, width and channels.
        exact: Whether the means of pixels stay what they are, in float32, as an app
            computes them, or become bytes again.
        crop: Fraction of the middle part that is used, per side, in (0, 1].
    """
    pixels = decode(content)
    if pixels.shape == shape and crop == 1:  # each new pixel is the mean of one
        return pixels.astype(np.float32) if exact else pixels
    means = scaled(pixels[np.newaxis], shape[:2], shape[2], crop)[0]
    return means if exact else np.rint(means).astype(np.uint8)
