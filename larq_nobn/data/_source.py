"""The images of a split by number: in memory, or read when they are needed."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue, UserError
from .._files import cache_folder

# Bytes of memory that a split may take.
IN_MEMORY = 1 << 30
_CHUNK = 1024
# Mean and standard deviation of each channel.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
# Takes the number of an image and the region to read, see `Transform.regions`, or None
# for all of it; returns pixels and label. Must be safe in several threads at once.
Read = Callable[[int, "np.ndarray | None"], "tuple[np.ndarray, int]"]


def on_host(values: Any) -> tf.Tensor:
    """Returns a tensor in host memory; a GPU gets only batches of it."""
    with tf.device("CPU:0"):
        return tf.constant(values)


@dataclass(frozen=True, eq=False)  # compared by identity
class Source:
    """The labeled images of a split by number, all of one shape.

    Either `images` contains all of them, or `read` returns them one by one. If `labels`
    is None, `read` returns the labels, too.
    """

    length: int
    shape: tuple[int, ...]
    dtype: str
    labels: np.ndarray | None  # (N,), of int64
    read: Read | None = None
    images: tf.Tensor | None = None

    @classmethod
    def of_arrays(cls, images: Any, labels: np.ndarray) -> Source:
        """Returns a source in memory, of bytes or floats (N, ...), and labels."""
        images = on_host(images)
        kind = images.dtype.name
        return cls(len(labels), tuple(images.shape[1:]), kind, labels, images=images)

    def take(
        self, numbers: tf.Tensor, regions: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns images and labels; reads several image files at once."""
        if self.images is not None:
            images = tf.gather(self.images, numbers)
            if regions is not None:  # scaled to the shape that all images have
                size, place = regions[:, :2], regions[:, 2:]
                corner = place * (1 - size)
                boxes = tf.concat([corner, corner + size], 1)
                each, sides = tf.range(tf.shape(numbers)[0]), self.shape[:2]
                images = tf.image.crop_and_resize(images, boxes, each, sides)
            return images, tf.gather(on_host(self.labels), numbers)
        inputs = [numbers] if regions is None else [numbers, regions]
        kinds, count = (self.dtype, "int64"), numbers.shape[0]
        images, labels = tf.numpy_function(self.decoded, inputs, kinds, stateful=False)
        if self.labels is not None:
            labels = tf.gather(on_host(self.labels), numbers)
        images = tf.ensure_shape(images, (count, *self.shape))
        return images, tf.ensure_shape(labels, (count,))

    def decoded(
        self, numbers: Iterable[int], regions: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads images and labels outside of TensorFlow; `reading` raises errors."""
        assert self.read is not None
        each = [None] * len([*numbers]) if regions is None else regions
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                pairs = list(pool.map(self.read, numbers, each))
        except (OSError, UserError) as error:
            _failed.append(error)
            raise
        images = np.array([pixels for pixels, _ in pairs], self.dtype)
        labels = np.array([label for _, label in pairs], np.int64)
        return images.reshape(-1, *self.shape), labels


_failed: list[Exception] = []


@contextmanager
def reading() -> Iterator[None]:
    """Raises the error of an unreadable image in place of TensorFlow's."""
    _failed.clear()
    try:
        yield
    except Exception as error:
        # A UnicodeDecodeError comes from a message that quotes bytes.
        if _failed and isinstance(error, (tf.errors.OpError, UnicodeDecodeError)):
            raise _failed[0].with_traceback(None) from None
        raise


def numbers_of(split: str, count: int, validation: float) -> np.ndarray:
    """Returns the numbers of the images of a split among `count` stored images."""
    if split == "test":
        return np.arange(count)
    order = np.random.default_rng(0).permutation(count)
    held = round(validation * count)
    return np.sort(order[:held] if split == "validation" else order[held:])


def statistics(source: Source) -> Statistics:
    """Returns mean and standard deviation of each channel of all images, in [0, 1].

    Both are rounded to four decimals, as is usual for the common data sets. A constant
    channel has the standard deviation 1.
    """
    if not source.length:
        raise InvalidValue(
            "There are no training images to compute mean and standard deviation "
            "from. Lower the holdout, or take those of a run (like=...)."
        )
    count, sums, squares = 0, 0, 0
    for start in range(0, source.length, _CHUNK):
        chunk = tf.range(start, min(start + _CHUNK, source.length))
        values = source.take(chunk)[0].numpy().astype(np.int64)
        count += values[..., 0].size
        sums = sums + values.sum((0, 1, 2))
        squares = squares + (values * values).sum((0, 1, 2))
    mean, std = [], []
    for total, square in zip(np.atleast_1d(sums), np.atleast_1d(squares), strict=True):
        # Integers up to the root: the result does not depend on the order of sums.
        variance = (count * int(square) - int(total) ** 2) / (255 * count) ** 2
        mean.append(round(int(total) / (255 * count), 4))
        std.append(round(variance**0.5, 4) or 1.0)
    return tuple(mean), tuple(std)


def cached(source: Source, cache: str) -> Source:
    """Returns the same images, each decoded only once; the same object for a source.

    See `Dataset.batches` for `cache`; "auto" takes 1 GiB of memory, or half of the free
    disk.
    """
    size = source.length * int(np.prod(source.shape)) * np.dtype(source.dtype).itemsize
    if cache == "auto" and size <= IN_MEMORY:
        cache = "memory"
    known = source.images is not None or source.labels is None
    if known or cache == "none" or not size:
        return source
    return _cached(source, cache, size)


@functools.lru_cache(maxsize=4)
def _cached(source: Source, cache: str, size: int) -> Source:
    if cache == "memory":
        images, _ = source.decoded(range(source.length))
        return replace(source, images=on_host(images))
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if cache == "disk" or size <= shutil.disk_usage(folder).free / 2:
            return _on_disk(source, folder, size)
    except OSError:
        if cache == "disk":
            raise
    return source


def _on_disk(source: Source, folder: Path, size: int) -> Source:
    """Returns a source that keeps decoded images in a file without a name."""
    with tempfile.TemporaryFile(dir=folder) as file:  # deleted with the process
        # Reserve the space: writing to a memory map kills the process on a full disk.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        shape = (source.length, *source.shape)
        images = np.memmap(file, source.dtype, "w+", shape=shape)
    is_decoded = np.zeros(source.length, bool)
    read: Any = source.read

    def read_once(number: int, _: np.ndarray | None) -> tuple[np.ndarray, int]:
        if not is_decoded[number]:
            images[number], _ = read(number, None)
            is_decoded[number] = True
        return images[number], 0

    return replace(source, read=read_once)
