"""The images of a split, found by their numbers: in memory, or read when needed."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from .._files import cache_folder, check_folder

# What a split may take of the memory.
IN_MEMORY = 1 << 30
_CHUNK = 1024


@dataclass(frozen=True)
class Arrays:
    """One split, decoded: images of bytes or float32, and labels (N,) of int64."""

    images: tf.Tensor
    labels: tf.Tensor

    def take(self, indices: tf.Tensor) -> tf.Tensor:
        """Copies images."""
        return tf.gather(self.images, indices)


@dataclass(frozen=True, eq=False)  # two are the same if they are one object
class LazyImages:
    """One split that is decoded whenever images of it are needed.

    `read` gives the image of a number, of one shape and type, and is called from
    several threads at once.
    """

    read: Callable[[int], np.ndarray]
    labels: tf.Tensor
    shape: tuple[int, int, int]
    dtype: str

    def take(self, indices: tf.Tensor) -> tf.Tensor:
        """Decodes images, several at once."""
        images = tf.numpy_function(self.decoded, [indices], self.dtype, stateful=False)
        return tf.ensure_shape(images, (indices.shape[0], *self.shape))

    def decoded(self, indices: Iterable[int]) -> np.ndarray:
        """The same outside of TensorFlow."""
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                images = list(pool.map(self.read, indices))
        except OSError as error:
            _failed.append(error)
            raise
        if not images:
            return np.zeros((0, *self.shape), self.dtype)
        return np.stack(images)


_failed: list[OSError] = []
# Raise if what a batch was made of is damaged; more are not made at one time.
_checks: deque[Callable[[], object]] = deque(maxlen=256)


def check_later(check: Callable[[], object]) -> None:
    """Has what was read checked if TensorFlow cannot make images of it.

    Arguments:
        check: Raises an error that says what is damaged.
    """
    _checks.append(check)


@contextmanager
def reading() -> Iterator[None]:
    """Raises the error of an unreadable image in place of TensorFlow's."""
    _failed.clear()
    _checks.clear()
    try:
        yield
    except Exception as error:
        # Where nothing was read, TensorFlow may not even be imported.
        read = _failed or _checks
        # The second is of a message that quotes bytes.
        if not (read and isinstance(error, (tf.errors.OpError, UnicodeDecodeError))):
            raise
        if _failed:
            raise _failed[0].with_traceback(None) from None
        # Other threads may still read what comes next.
        for check in reversed(_checks.copy()):
            check()
        raise


# What `take(indices)` gives images of (n, height, width, channels), values 0 to 255.
Source = Arrays | LazyImages


def validation_numbers(count: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training images that stay, and of those for validation.

    A fixed permutation of the count decides.
    """
    order = np.random.default_rng(0).permutation(count)
    held = round(fraction * count)
    return np.sort(order[held:]), np.sort(order[:held])


class Contents:
    """Files, found by their numbers; too many for memory lie in one without a name."""

    def __init__(self) -> None:
        self._stored = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115
        # Not at the end of the process, in which other threads may still read.
        weakref.finalize(self, self._stored.close).atexit = False
        self._ends = [0]
        self._lock = threading.Lock()

    def append(self, content: bytes) -> None:
        """Adds a file after the last."""
        self._stored.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def read(self, index: int) -> bytes:
        """Returns one; from several threads too, once all are there."""
        start, end = self._ends[index : index + 2]
        with self._lock:
            self._stored.seek(start)
            return self._stored.read(end - start)


def statistics(source: Source) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of bytes, in [0, 1], of all images.

    Both have four decimals, as those of the common data sets are given. A constant
    channel has the standard deviation 1.
    """
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


_FRACTION_OF_DISK = 0.5  # of what is free


@functools.lru_cache(maxsize=4)
def cached(source: LazyImages, cache: str) -> Source:
    """Returns the same images, each decoded once; always the same ones for a source.

    `"memory"` decodes all at once. `"disk"` keeps what is needed in a file of the
    user's cache folder that ends with the process. `"none"` decodes again. `"auto"`:
    the first of these that has room, which is 1 GiB of memory, or half of what is free
    on the disk.
    """
    count = len(source.labels)
    shape, dtype = (count, *source.shape), np.dtype(source.dtype)
    if cache == "auto":
        size = int(np.prod(shape)) * dtype.itemsize
        on_disk = size > IN_MEMORY and size <= _FRACTION_OF_DISK * _free_on_disk()
        cache = "memory" if size <= IN_MEMORY else "disk" if on_disk else "none"
    if cache == "memory":
        images = np.empty(shape, dtype)
        for start in range(0, count, _CHUNK):
            part = np.arange(start, min(start + _CHUNK, count))
            images[part] = source.decoded(part)
        # On the host even if there is a GPU: batches are cut there, and only they
        # travel.
        with tf.device("CPU:0"):
            return Arrays(tf.constant(images), source.labels)
    if cache == "disk" and count:
        return _on_disk(source, shape, dtype)
    return source


def _free_on_disk() -> int:
    """How much room there is for a cache; none where nobody can tell."""
    with suppress(OSError):
        place = cache_folder()
        there = next(p for p in (place, *place.parents) if os.path.exists(p))
        return shutil.disk_usage(there).free
    return 0


def _reserve(file: int, size: int) -> None:
    """Takes the room of a file on the disk, where the system can do so.

    Without, writing to its map when the disk is full would end the process.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise


def _on_disk(source: LazyImages, shape: tuple[int, ...], dtype: Any) -> LazyImages:
    """Writes what is decoded to a file without a name, and reads it from there."""
    folder, size = cache_folder(), int(np.prod(shape)) * dtype.itemsize
    try:
        check_folder(folder, "the cache")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # gone with the process
            _reserve(file.fileno(), size)
            images = np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        raise OSError(
            f"{folder} takes no cache of {size:,} bytes: {error.strerror}. Choose "
            "--cache none (cache='none'), or another folder by LARQ_NOBN_CACHE."
        ) from error
    there = np.zeros(len(images), bool)

    def read(index: int) -> np.ndarray:
        if not there[index]:
            images[index] = source.read(index)
            there[index] = True
        return images[index]

    return replace(source, read=read)
