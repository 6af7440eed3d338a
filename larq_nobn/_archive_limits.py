"""Archives of others: what is inside, and how large, before anything is unpacked."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from typing import Any

# A few bytes may stand for so many: an archive of zeros, or one made to fill a disk.
_RATIO, _FREE = 64, 1 << 26
# What an array takes beside its values, so that many small ones are not free either.
_LEAST = 1 << 12


def check_zip(archive: zipfile.ZipFile) -> None:
    """Raises ValueError unless every member stays inside, and all fit into memory.

    Arguments:
        archive: Open for reading; only its table of contents is read.
    """
    stored = unpacked = 0
    for member in archive.infolist():
        name = member.filename
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise ValueError(f"its member {name!r} lies outside of it")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"its member {name!r} is a link or a device")
        if member.flag_bits & 1:
            raise ValueError(f"its member {name!r} is encrypted")
        stored += member.compress_size
        unpacked += member.file_size
    assert archive.fp is not None  # which a closed archive has no more
    if stored > archive.fp.seek(0, os.SEEK_END):
        raise ValueError("its members overlap, or are larger than it is")
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise ValueError("two of its members have one name")
    _check_size(unpacked, stored)


def bytes_of(values: int, itemsize: int) -> int:
    """Returns the bytes that an array of so many values takes in memory."""
    return max(values * itemsize, _LEAST)


def check_hdf5(file: Any, size: int) -> int:
    """The same of an HDF5 file, which can point to others and be small on disk.

    Arguments:
        file: An open `h5py.File`; only names and shapes are read.
        size: How many bytes it has.

    Returns:
        The bytes that its arrays take in memory.
    """
    unpacked = in_memory = 0
    for name, dataset in _datasets(file):
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"its data {name!r} lies in another file")
        if dataset.dtype.hasobject:  # texts and references, many of which can be one
            raise ValueError(f"its data {name!r} is no array of numbers")
        values = dataset.size if dataset.shape else 0
        unpacked += values * dataset.dtype.itemsize
        in_memory += bytes_of(values, dataset.dtype.itemsize)
    _check_size(unpacked, size)
    return in_memory


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    import h5py

    waiting, seen = [("", file)], set()
    while waiting:
        path, group = waiting.pop()
        for key in group:
            name = f"{path}/{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"its member {name!r} is a link")
            found = group[key]
            if found.id in seen:
                continue
            seen.add(found.id)
            if isinstance(found, h5py.Group):
                waiting.append((name, found))
            elif isinstance(found, h5py.Dataset):
                yield name, found


def _check_size(unpacked: int, stored: int) -> None:
    if unpacked > _FREE + _RATIO * stored:
        raise ValueError(
            f"it would grow from {stored:,} to {unpacked:,} bytes when it is read"
        )
