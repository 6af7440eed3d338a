"""Where decoded pictures are kept: in memory, on the disk, or nowhere."""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from ._source import IN_MEMORY, Arrays, Pictures, Source
from .folder import cache_folder

CACHES = ("auto", "memory", "disk", "none")
# Of what is free on the disk.
_SHARE_OF_DISK = 0.5
_CHUNK = 1024


@functools.lru_cache(maxsize=4)
def kept(pictures: Pictures, cache: str = "auto") -> Source:
    """The same images, each decoded once; they are the same wherever they are kept.

    Arguments:
        pictures: Decoded whenever they are needed.
        cache: `"memory"` decodes all at once. `"disk"` keeps what is needed in a file
            that ends with the process, in the user's cache folder. `"none"` decodes
            again. `"auto"`: the first of these that has room, which is 1 GiB of memory,
            or half of what is free on the disk.

    Returns:
        The images; the second call in a process returns the same ones.
    """
    count = len(pictures.labels)
    shape, dtype = (count, *pictures.shape), np.dtype(pictures.dtype)
    if cache == "auto":
        cache = _suitable(int(np.prod(shape)) * dtype.itemsize)
    if cache == "memory":
        images = np.empty(shape, dtype)
        for start in range(0, count, _CHUNK):
            part = np.arange(start, min(start + _CHUNK, count))
            images[part] = pictures.decoded(part)
        # On the host even if there is a GPU: batches are cut there, and only they
        # travel.
        with tf.device("CPU:0"):
            return Arrays(tf.constant(images), pictures.labels)
    if cache == "disk" and count:
        return _on_disk(pictures, shape, dtype)
    return pictures


def _suitable(size: int) -> str:
    if size <= IN_MEMORY:
        return "memory"
    place = next(p for p in [cache_folder(), *cache_folder().parents] if p.exists())
    return "disk" if size <= _SHARE_OF_DISK * shutil.disk_usage(place).free else "none"


def _on_disk(pictures: Pictures, shape: tuple[int, ...], dtype: Any) -> Pictures:
    """What is decoded is written down; what was written is read."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    # Without a name from the begin, and as large as what is in it.
    with tempfile.TemporaryFile(dir=cache_folder()) as file:
        images: Any = np.memmap(file, dtype, "w+", shape=shape)
    there = np.zeros(len(images), bool)

    def read(index: int) -> np.ndarray:
        if not there[index]:
            images[index] = pictures.read(index)
            there[index] = True
        return images[index]

    return replace(pictures, read=read)
