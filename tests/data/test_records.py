"""Records by their number, and images wherever they are kept."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import _source
from larq_nobn.data._source import Source
from larq_nobn.data._tfds import Records


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, contents: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return path


def test_records_are_those_that_were_written(tmp_path: Path):
    rng = np.random.default_rng(0)
    contents = [rng.bytes(size) for size in (0, 5, 1000, 1, 70_000, 3)]
    parts = {"a": contents[:4], "b": [], "c": contents[4:]}
    files = [write(tmp_path / name, part) for name, part in parts.items()]
    records = Records(files)
    assert len(records) == 6
    order = [4, 0, 5, 3, 3, 1, 2]
    assert [*map(records.read, order)] == [contents[index] for index in order]
    files[0].write_bytes(files[0].read_bytes()[:-6])
    with pytest.raises(ValueError, match="a is cut off: its last record ends after"):
        Records(files)


class Reads:
    """Images whose pixels are their number, and how often each was read."""

    def __init__(self, dtype: str = "uint8") -> None:
        self.times, self.dtype = [0] * 6, dtype
        self.images = Source(6, (2, 3, 1), dtype, np.arange(6) % 4, self._read)

    def _read(self, index: int, part: None) -> tuple[np.ndarray, int]:
        self.times[index] += 1
        return np.full((2, 3, 1), index + 1, self.dtype), 9  # the known label counts


@pytest.mark.parametrize(
    ("cache", "dtype", "at_once", "times"),
    [
        ("memory", "uint8", [1] * 6, [1] * 6),
        ("disk", "float32", [0] * 6, [0, 1, 1, 0, 1, 0]),
        ("none", "uint8", [0] * 6, [0, 2, 1, 0, 3, 0]),
    ],
)
def test_kept_images_are_the_same(
    cache: str, dtype: str, at_once: list[int], times: list[int]
):
    reads = Reads(dtype)
    source = _source.cached(reads.images, cache)
    assert reads.times == at_once
    for indices in ([4, 1], [], [2, 4], [1, 4]):
        actual, labels = source.take(tf.constant(indices, tf.int64))
        np.testing.assert_array_equal(labels, np.array(indices, int) % 4)
        assert actual.dtype == dtype and actual.shape == (len(indices), 2, 3, 1)
        expected = [np.full((2, 3, 1), index + 1) for index in indices]
        np.testing.assert_array_equal(actual, np.reshape(expected, actual.shape))
    assert reads.times == times
    assert _source.cached(reads.images, cache) is source


def test_the_first_place_with_room_is_taken(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    reserved: list[int] = []

    def reserve(file: int, start: int, size: int) -> None:
        """At once: a map with holes ends the process where the disk is full later."""
        reserved.append(size)
        if len(reserved) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    for memory, free, decoded, times in (
        (36, 0, True, 1),
        (35, 71, False, 2),
        (35, 72, False, 1),
        (35, 72, False, 2),
    ):
        monkeypatch.setattr(_source, "IN_MEMORY", memory)
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr(_source.shutil, "disk_usage", lambda _, usage=usage: usage)
        reads = Reads()
        source = _source.cached(reads.images, "auto")
        assert (source.images is not None) is decoded
        for _ in range(2):
            source.take(tf.constant([3]))
        assert reads.times[3] == times
    assert reserved == [36, 36]
    with pytest.raises(OSError, match="No space left"):
        _source.cached(Reads().images, "disk")
    # The file has no name, so that nothing stays of it.
    assert not any(path.is_file() for path in cache.rglob("*"))
