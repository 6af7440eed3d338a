"""Records of TensorFlow's files, each found by its number, in any order."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._files import cache_folder, opened, replacing

# A length of 8 bytes and its checksum come before the content, another one after.
_BEFORE, _AFTER = 12, 4


@dataclass(frozen=True, eq=False)
class Records:
    """Where the records of some files are.

    Places are (N, 3): the number of the file, the first byte, the number of bytes.
    """

    files: Sequence[str]
    places: np.ndarray

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.places)

    def read(self, index: int) -> bytes:
        """Returns the content of one."""
        file, start, size = self.places[index].tolist()
        with opened(self.files[file]) as stream:
            stream.seek(start)
            return stream.read(size)

    def read_all(self, indices: Iterable[int]) -> list[bytes]:
        """Returns the contents of several, read at once."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self.read, indices))


def records_in(files: Iterable[str | os.PathLike[str]]) -> Records:
    """Finds the records of files, in their order; what is found is kept.

    Only lengths are read, once: a million of records takes a minute or two. The list is
    kept in the user's cache folder for as long as the files are as they were.
    """
    names = [os.fspath(file) for file in files]
    stats = [os.stat(name) for name in names]
    said = repr(
        [(name, s.st_size, s.st_mtime_ns) for name, s in zip(names, stats, strict=True)]
    )
    digest = hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()[:32]
    target = cache_folder() / "records" / f"{digest}.npy"
    with contextlib.suppress(OSError, ValueError):
        return Records(names, np.load(target, allow_pickle=False))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_places_in, names))
    places = np.concatenate(
        [np.insert(each, 0, number, axis=1) for number, each in enumerate(found)]
    )
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            np.save(temporary, places, allow_pickle=False)
    return Records(names, places)


def _places_in(name: str) -> np.ndarray:
    """First byte and number of bytes of each record."""
    end = Path(name).stat().st_size
    found, place = [], 0
    with opened(name) as stream:
        while place < end:
            stream.seek(place)
            size = int.from_bytes(stream.read(8), "little")
            found.append((place + _BEFORE, size))
            place += _BEFORE + size + _AFTER
    if place != end:
        raise ValueError(
            f"{name} is cut off: its last record ends after the file. Prepare the "
            "data set again."
        )
    return np.array(found, np.int64).reshape(-1, 2)
