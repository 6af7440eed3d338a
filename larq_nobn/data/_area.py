"""Area averaging: images of any size as images of one size, in whole numbers."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

# The weights of red, green and blue in the brightness of ITU-R BT.601, in thousandths.
LUMA = (299, 587, 114)
# So many values are summed at once, each of which takes eight bytes meanwhile.
_AT_ONCE = 1 << 24


def scaled(
    images: np.ndarray, size: tuple[int, int], channels: int, crop: float = 1.0
) -> np.ndarray:
    r"""Returns the middle part of images, of another size.

    \[ y_{ij} = \frac{1}{|T_{ij}|} \sum_{p \in T_{ij}} x_p \]

    where T is all that a pixel of the small image touches in the middle part of the
    image: the largest one of the image's proportions, or `crop` of it per side. Sums
    are whole numbers, so that whoever does the same gets the same bits. Images are (N,
    height, width, channels), uint8, and become float32. Three channels of gray ones are
    alike; one of colours is their brightness (299 R + 587 G + 114 B) / 1000.
    """
    middle = _middle(images, size, crop)
    pieces = min(middle.shape[2], 1 + middle.size // _AT_ONCE)
    parts = [_touched(part, 1, size[0]) for part in np.array_split(middle, pieces, 2)]
    sums, high = np.concatenate([part for part, _ in parts], 2), parts[0][1]
    sums, wide = _touched(sums, 2, size[1])
    unit = 1
    if channels == 1 and sums.shape[-1] == 3:
        sums, unit = (sums * LUMA).sum(-1, keepdims=True), sum(LUMA)
    counts = (unit * high[:, np.newaxis] * wide)[..., np.newaxis]
    means = (sums / counts).astype(np.float32)
    return np.broadcast_to(means, (*means.shape[:3], channels))


def _middle(batch: np.ndarray, size: tuple[int, int], crop: float) -> np.ndarray:
    """Cuts out the part that is looked at."""
    height, width = batch.shape[1:3]
    tall, wide = size
    rows = max(1, floor(crop * min(height, width * tall // wide)))
    columns = max(1, floor(crop * min(width, height * wide // tall)))
    top, left = (height - rows) // 2, (width - columns) // 2
    return batch[:, top : top + rows, left : left + columns]


def _touched(values: np.ndarray, axis: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums what each of `size` pixels touches along an axis; says how many that are."""
    count, index = values.shape[axis], np.arange(size)
    low = index * count // size
    touched = -(-(index + 1) * count // size) - low  # the first is rounded up
    sums: Any = values.take(low, axis).astype(np.int64)
    for further in range(1, touched.max()):
        # Nearly all touch equally many.
        own = np.flatnonzero(touched > further)
        sums[(*[slice(None)] * axis, own)] += values.take(low[own] + further, axis)
    return sums, touched
