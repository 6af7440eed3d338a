"""Records by their number, and images wherever they are kept."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import _source
from larq_nobn.data._records import records_in
from larq_nobn.data._source import Arrays, LazyImages


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LARQ_NOBN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, contents: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return path


def test_records_are_those_that_tensorflow_reads(tmp_path: Path, cache: Path):
    rng = np.random.default_rng(0)
    contents = [rng.bytes(size) for size in (0, 5, 1000, 1, 70_000, 3)]
    files = [
        write(tmp_path / "a", contents[:4]),
        write(tmp_path / "b", []),
        write(tmp_path / "c", contents[4:]),
    ]
    read = tf.data.TFRecordDataset(list(map(str, files))).as_numpy_iterator()
    assert list(read) == contents
    for _ in range(2):  # found, and remembered
        records = records_in(files)
        assert len(records) == 6
        order = [4, 0, 5, 3, 3, 1, 2]
        assert [*map(records.read, order)] == [contents[index] for index in order]
        (kept,) = (cache / "records").iterdir()
    kept.write_bytes(b"damaged")
    assert records_in(files).read(5) == contents[5]
    # Another file of the same name is another one.
    write(files[2], contents[:1])
    assert len(records_in(files)) == 5


def test_a_file_that_is_cut_off(tmp_path: Path):
    file = write(tmp_path / "a", [b"12345", b"67890"])
    file.write_bytes(file.read_bytes()[:-6])
    with pytest.raises(ValueError, match="a is cut off: its last record ends after"):
        records_in([file])


class Reads:
    """LazyImages whose pixels are their number, and how often each was read."""

    def __init__(self, count: int, dtype: str = "uint8") -> None:
        self.times = [0] * count
        labels = tf.range(count, dtype=tf.int64)
        self.pictures = LazyImages(self._read, labels, (2, 3, 1), dtype)

    def _read(self, index: int) -> np.ndarray:
        self.times[index] += 1
        return np.full((2, 3, 1), index + 1, self.pictures.dtype)


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
    reads = Reads(6, dtype)
    source = _source.cached(reads.pictures, cache)
    assert reads.times == at_once
    for indices in ([4, 1], [], [2, 4], [1, 4]):
        found = source.take(tf.constant(indices, tf.int64)).numpy()
        assert found.dtype == dtype and found.shape == (len(indices), 2, 3, 1)
        expected = [np.full((2, 3, 1), index + 1) for index in indices]
        np.testing.assert_array_equal(found, np.reshape(expected, found.shape))
    assert reads.times == times
    assert _source.cached(reads.pictures, cache) is source


def test_the_room_on_the_disk_is_taken_at_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    """A map with holes ends the process by SIGBUS where the disk is full later."""
    make, files = _source.tempfile.TemporaryFile, []

    def noted(**given):
        file = make(**given)
        files.append(os.dup(file.fileno()))
        return file

    monkeypatch.setattr(_source.tempfile, "TemporaryFile", noted)
    _source.cached(Reads(50_000).pictures, "disk")
    assert os.fstat(files[0]).st_blocks * 512 >= 50_000 * 6
    os.close(files[0])


def test_a_full_disk_takes_no_cache(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", fails)
    code = errno.ENOSPC
    with pytest.raises(OSError) as caught:
        _source.cached(Reads(6).pictures, "disk")
    assert str(caught.value) == (
        f"{cache} takes no cache of 36 bytes: No space left on device. Choose --cache "
        "none (cache='none'), or another folder by LARQ_NOBN_CACHE."
    )


def test_the_first_place_with_room_is_taken(
    cache: Path, monkeypatch: pytest.MonkeyPatch
):
    size = 6 * 6
    free: list[tuple[int, int, type, int]] = [
        (size, 0, Arrays, 1),
        (size - 1, 2 * size, LazyImages, 1),
        (size - 1, 2 * size - 1, LazyImages, 2),
    ]
    for memory, disk, kind, times in free:
        monkeypatch.setattr(_source, "IN_MEMORY", memory)
        usage = type("Usage", (), {"free": disk})
        monkeypatch.setattr(_source.shutil, "disk_usage", lambda _, usage=usage: usage)
        reads = Reads(6)
        source = _source.cached(reads.pictures, "auto")
        assert type(source) is kind
        for _ in range(2):
            source.take(tf.constant([3]))
        assert reads.times[3] == times
    # The file has no name, so that nothing stays of it.
    assert not any(path.is_file() for path in cache.rglob("*"))
