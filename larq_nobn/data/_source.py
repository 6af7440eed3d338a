"""The images of a split, found by their numbers: in memory, or read when needed."""

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

# What a split may take of the memory.
IN_MEMORY = 1 << 30
_CHUNK = 1024
# Mean and standard deviation of each channel.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
# Takes the number of an image and the part that is wanted, see `Transform.parts`, or
# None; returns pixels and label. Called from several threads at once.
Read = Callable[[int, "np.ndarray | None"], "tuple[np.ndarray, int]"]


def on_host(values: Any) -> tf.Tensor:
    """An array of the host even if there is a GPU: only batches travel."""
    with tf.device("CPU:0"):
        return tf.constant(values)


@dataclass(frozen=True, eq=False)  # two are the same if they are one object
class Source:
    """The labeled images of a split, all of one shape, found by their numbers.

    Either `images` has all of them, or `read` returns them one by one, and their labels
    if nobody else knows these.
    """

    length: int
    shape: tuple[int, ...]
    dtype: str
    labels: np.ndarray | None  # (N,), of int64
    read: Read | None = None
    images: tf.Tensor | None = None

    @classmethod
    def of_arrays(cls, images: Any, labels: np.ndarray) -> Source:
        """Returns what is in memory: images of bytes or floats (N, ...), and labels."""
        images = on_host(images)
        kind = images.dtype.name
        return cls(len(labels), tuple(images.shape[1:]), kind, labels, images=images)

    def take(
        self, numbers: tf.Tensor, parts: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns images and labels; of images in files, several are read at once."""
        if self.images is not None:
            images = tf.gather(self.images, numbers)
            if parts is not None:  # of images of one shape, which are magnified
                size, place = parts[:, :2], parts[:, 2:]
                corner = place * (1 - size)
                boxes = tf.concat([corner, corner + size], 1)
                each, sides = tf.range(tf.shape(numbers)[0]), self.shape[:2]
                images = tf.image.crop_and_resize(images, boxes, each, sides)
            return images, tf.gather(on_host(self.labels), numbers)
        given = [numbers] if parts is None else [numbers, parts]
        kinds = (self.dtype, "int64")
        images, labels = tf.numpy_function(self.decoded, given, kinds, stateful=False)
        count = numbers.shape[0]
        if self.labels is not None:
            labels = tf.gather(on_host(self.labels), numbers)
        images = tf.ensure_shape(images, (count, *self.shape))
        return images, tf.ensure_shape(labels, (count,))

    def decoded(
        self, numbers: Iterable[int], parts: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads images outside of TensorFlow; `reading` raises what goes wrong."""
        assert self.read is not None
        wanted = [None] * len([*numbers]) if parts is None else parts
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                pairs = list(pool.map(self.read, numbers, wanted))
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
        # TensorFlow is not imported for other errors. The second is of a message that
        # quotes bytes.
        if _failed and isinstance(error, (tf.errors.OpError, UnicodeDecodeError)):
            raise _failed[0].with_traceback(None) from None
        raise


def numbers_of(split: str, count: int, validation: float) -> np.ndarray:
    """The images of a split among those that are stored, which are `count`."""
    if split == "test":
        return np.arange(count)
    order = np.random.default_rng(0).permutation(count)
    held = round(validation * count)
    return np.sort(order[:held] if split == "validation" else order[held:])


def statistics(source: Source) -> Statistics:
    """Mean and standard deviation of each channel of bytes, in [0, 1], of all images.

    Both have four decimals, as those of the common data sets are given. A constant
    channel has the standard deviation 1.
    """
    if not source.length:
        raise InvalidValue(
            "None of the images is for training, of which mean and std are taken. "
            "Lower the holdout, or give those of a run (like=...)."
        )
    count, sums, squares = 0, 0, 0
    for start in range(0, source.length, _CHUNK):
        part = tf.range(start, min(start + _CHUNK, source.length))
        values = source.take(part)[0].numpy().astype(np.int64)
        count += values[..., 0].size
        sums = sums + values.sum((0, 1, 2))
        squares = squares + (values * values).sum((0, 1, 2))
    mean, std = [], []
    for total, square in zip(np.atleast_1d(sums), np.atleast_1d(squares), strict=True):
        # In whole numbers up to the root: no order of adding has a say in it.
        variance = (count * int(square) - int(total) ** 2) / (255 * count) ** 2
        mean.append(round(int(total) / (255 * count), 4))
        std.append(round(variance**0.5, 4) or 1.0)
    return tuple(mean), tuple(std)


def cached(source: Source, cache: str) -> Source:
    """Returns the same images, each decoded once; always the same ones for a source.

    `"memory"` decodes all at once. `"disk"` keeps what is needed in a file of the
    user's cache folder that ends with the process. `"none"` decodes again. `"auto"`:
    the first of these that has room, which is 1 GiB of memory, or half of what is free
    on the disk.
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
    """Writes what is decoded to a file without a name, and reads it from there."""
    with tempfile.TemporaryFile(dir=folder) as file:  # gone with the process
        # Writing to the map when the disk is full would end the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        shape = (source.length, *source.shape)
        images = np.memmap(file, source.dtype, "w+", shape=shape)
    there = np.zeros(source.length, bool)
    read: Any = source.read

    def kept(number: int, _: np.ndarray | None) -> tuple[np.ndarray, int]:
        if not there[number]:
            images[number], _ = read(number, None)
            there[number] = True
        return images[number], 0

    return replace(source, read=kept)
