"""Examples of prepared sets, each found by its number, in any order."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import InvalidValue
from .._files import cache_folder, replacing
from ._tfds import check_labels, reading_records

# A length of 8 bytes and its checksum come before the content, another one after.
_BEFORE, _AFTER = 12, 4


class Examples:
    """Files and labels of a split, as TensorFlow Datasets stored them.

    Arguments:
        name: The set, for errors.
        builder: That of the set, which is prepared.
        split: As the set calls it.
        keys: The features that are image and label.
    """

    def __init__(
        self,
        name: str,
        builder: Any,
        split: str,
        keys: tuple[str, str] = ("image", "label"),
    ) -> None:
        self._name, self.folder = name, os.fspath(builder.data_dir)
        self._features, self._keys = builder.info.features, keys
        part = builder.info.splits[split]
        if builder.info.file_format.value != "tfrecord":
            raise InvalidValue(
                f"{name} in {self.folder} is stored as "
                f"{builder.info.file_format.value}. Prepare it as tfrecord."
            )
        with reading_records(name, self.folder):
            self._records = records_in(part.filepaths)
            if len(self._records) != part.num_examples:
                raise InvalidValue(f"{len(self._records)} records")

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._records)

    def read(self, index: int) -> tuple[bytes, int]:
        """Returns the file of an image and its label; from several threads, too.

        Raises:
            ValueError: If the record is damaged.
        """
        import tensorflow_datasets as tfds

        image, label = self._keys
        with reading_records(self._name, self.folder):
            example = self._features.deserialize_example_np(
                self._records.read(index), decoders={image: tfds.decode.SkipDecoding()}
            )
            check_labels([example[label]], self._features[label].num_classes)
        return example[image], int(example[label])


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
        with open(self.files[file], "rb") as stream:
            stream.seek(start)
            return stream.read(size)


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
    name = f"records/{digest}.npy"
    with (
        contextlib.suppress(OSError, ValueError),
        (cache_folder() / name).open("rb") as stream,
    ):
        return Records(names, np.load(stream, allow_pickle=False))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(_places_in, names))
    places = np.concatenate(
        [np.insert(part, 0, number, axis=1) for number, part in enumerate(parts)]
    )
    with contextlib.suppress(OSError):
        target = cache_folder() / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            np.save(temporary, places, allow_pickle=False)
    return Records(names, places)


def _places_in(name: str) -> np.ndarray:
    """First byte and number of bytes of each record."""
    end = Path(name).stat().st_size
    records, place = [], 0
    with open(name, "rb") as stream:
        while place < end:
            stream.seek(place)
            size = int.from_bytes(stream.read(8), "little")
            records.append((place + _BEFORE, size))
            place += _BEFORE + size + _AFTER
    if place != end:
        raise InvalidValue(
            f"{name} is cut off: its last record ends after the file. Prepare the "
            "data set again."
        )
    return np.array(records, np.int64).reshape(-1, 2)
