"""Adaptive average pooling: scales images of any size to one size, in integers."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

# The weights of red, green and blue in the brightness of ITU-R BT.601, in thousandths.
LUMA = (299, 587, 114)
# Number of values that are summed at once, of eight bytes each.
_AT_ONCE = 1 << 24


def scaled(
    images: np.ndarray, size: tuple[int, int], channels: int, crop: float = 1.0
) -> np.ndarray:
    r"""Returns a center crop of images, scaled to a size by average pooling.

    \[ y_{ij} = \frac{1}{|T_{ij}|} \sum_{p \in T_{ij}} x_p \]

    T contains all pixels that the new pixel touches in the center crop, which has the
    proportions of the new size, and the fraction `crop` of the largest possible sides.
    Sums are integers, so that every implementation gets the same bits. Images are
    uint8, (N, height, width, channels); the result is float32. Three channels of a gray
    image are equal; one channel of a color image is (299 R + 587 G + 114 B) / 1000.
    """
    (height, width), (tall, wide) = images.shape[1:3], size
    rows = max(1, floor(crop * min(height, width * tall // wide)))
    columns = max(1, floor(crop * min(width, height * wide // tall)))
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = images[:, top : top + rows, left : left + columns]
    count = min(middle.shape[2], 1 + middle.size // _AT_ONCE)
    pieces = [_touched(piece, 1, size[0]) for piece in np.array_split(middle, count, 2)]
    sums, of_rows = np.concatenate([own for own, _ in pieces], 2), pieces[0][1]
    sums, of_columns = _touched(sums, 2, size[1])
    unit = 1
    if channels == 1 and sums.shape[-1] == 3:
        sums, unit = (sums * LUMA).sum(-1, keepdims=True), sum(LUMA)
    counts = (unit * of_rows[:, np.newaxis] * of_columns)[..., np.newaxis]
    means = (sums / counts).astype(np.float32)
    return np.broadcast_to(means, (*means.shape[:3], channels))


def _touched(values: np.ndarray, axis: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns sums and numbers of the pixels that each of `size` new ones touches."""
    count, index = values.shape[axis], np.arange(size)
    low = index * count // size
    touched = -(-(index + 1) * count // size) - low  # the first is rounded up
    sums: Any = values.take(low, axis).astype(np.int64)
    for further in range(1, touched.max()):
        # Nearly all new pixels touch the same number of old ones.
        own = np.flatnonzero(touched > further)
        sums[(*[slice(None)] * axis, own)] += values.take(low[own] + further, axis)
    return sums, touched
