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
from typing import TypeVar

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue, UserError
from .._files import cache_folder

# What a split may take of the memory.
IN_MEMORY = 1 << 30
_CHUNK = 1024
_Read = TypeVar("_Read")
# Mean and standard deviation of each channel.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def on_host(values: np.ndarray) -> tf.Tensor:
    """An array of the host even if there is a GPU: only batches travel."""
    with tf.device("CPU:0"):
        return tf.constant(values)


@dataclass(frozen=True)
class Arrays:
    """One split, decoded: images of bytes or float32, and labels (N,) of int64."""

    images: tf.Tensor
    labels: np.ndarray

    def take(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.images, indices)


@dataclass(frozen=True, eq=False)  # two are the same if they are one object
class LazyImages:
    """One split that is decoded whenever images of it are needed."""

    read: Callable[[int], np.ndarray]  # called from several threads at once
    labels: np.ndarray
    shape: tuple[int, int, int]
    dtype: str

    def take(self, indices: tf.Tensor) -> tf.Tensor:
        """Decodes images, several at once."""
        images = tf.numpy_function(self.decoded, [indices], self.dtype, stateful=False)
        return tf.ensure_shape(images, (indices.shape[0], *self.shape))

    def decoded(self, indices: Iterable[int]) -> np.ndarray:
        """Decodes images outside of TensorFlow."""
        images = in_threads(self.read, indices)
        return np.array(images, self.dtype).reshape(-1, *self.shape)


Source = Arrays | LazyImages
_failed: list[Exception] = []


def in_threads(read: Callable[[int], _Read], indices: Iterable[int]) -> list[_Read]:
    """Reads several at once; what cannot be read is raised by `reading`."""
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(read, indices))
    except (OSError, UserError) as error:
        _failed.append(error)
        raise


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
    if not len(source.labels):
        raise InvalidValue(
            "None of the images is for training, of which mean and std are taken. "
            "Lower the holdout, or give those of a run (like=...)."
        )
    count, sums, squares = 0, 0, 0
    for start in range(0, len(source.labels), _CHUNK):
        part = tf.range(start, min(start + _CHUNK, len(source.labels)))
        values = source.take(part).numpy().astype(np.int64)
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


@functools.lru_cache(maxsize=4)
def cached(source: LazyImages, cache: str) -> Source:
    """Returns the same images, each decoded once; always the same ones for a source.

    `"memory"` decodes all at once. `"disk"` keeps what is needed in a file of the
    user's cache folder that ends with the process. `"none"` decodes again. `"auto"`:
    the first of these that has room, which is 1 GiB of memory, or half of what is free
    on the disk.
    """
    size = len(source.labels) * int(np.prod(source.shape))
    size *= np.dtype(source.dtype).itemsize
    if cache == "memory" or (cache == "auto" and size <= IN_MEMORY):
        images = source.decoded(range(len(source.labels)))
        return Arrays(on_host(images), source.labels)
    if cache == "none" or not size:
        return source
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if cache == "disk" or size <= shutil.disk_usage(folder).free / 2:
            return _on_disk(source, folder, size)
    except OSError:
        if cache == "disk":
            raise
    return source


def _on_disk(source: LazyImages, folder: Path, size: int) -> LazyImages:
    """Writes what is decoded to a file without a name, and reads it from there."""
    with tempfile.TemporaryFile(dir=folder) as file:  # gone with the process
        # Writing to the map when the disk is full would end the process.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        shape = (len(source.labels), *source.shape)
        images = np.memmap(file, source.dtype, "w+", shape=shape)
    there = np.zeros(len(images), bool)

    def read(index: int) -> np.ndarray:
        if not there[index]:
            images[index] = source.read(index)
            there[index] = True
        return images[index]

    return replace(source, read=read)
