"""Archives of others: what is inside, and how large, before anything is unpacked."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

from ._errors import InvalidValue
from ._hdf5_texts import length_of_texts

# A few bytes may stand for so many: an archive of zeros, or one made to fill a disk.
_RATIO, _FREE = 64, 1 << 26
# What a letter of JSON may take once it is read: "{}" is an object of Python.
_OF_JSON = 32
# What an array takes beside its values, so that many small ones are not free either.
_LEAST = 1 << 12


def check_zip(archive: zipfile.ZipFile, json: Sequence[str] = ()) -> None:
    """Raises ValueError unless every member stays inside, and all fit into memory.

    Arguments:
        archive: Open for reading; only its table of contents is read.
        json: The members that are read as JSON.
    """
    stored = unpacked = 0
    for member in archive.infolist():
        name = member.filename
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
            raise InvalidValue(f"its member {name!r} lies outside of it")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InvalidValue(f"its member {name!r} is a link or a device")
        if member.flag_bits & 1:
            raise InvalidValue(f"its member {name!r} is encrypted")
        stored += member.compress_size
        unpacked += member.file_size * (_OF_JSON if name in json else 1)
    assert archive.fp is not None  # which a closed archive has no more
    if stored > archive.fp.seek(0, os.SEEK_END):
        raise InvalidValue("its members overlap, or are larger than it is")
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise InvalidValue("two of its members have one name")
    check_size(unpacked, stored)


def bytes_of(values: int, itemsize: int) -> int:
    """Returns the bytes that an array of so many values takes in memory."""
    return max(values * itemsize, _LEAST)


def check_hdf5(stream: IO[bytes], size: int) -> int:
    """The same of an HDF5 file, which can point to others and be small on disk.

    Arguments:
        stream: Open for reading; only names, shapes and lengths are read.
        size: How many bytes it has, or takes in an archive.

    Returns:
        The bytes that its arrays take in memory.
    """
    import h5py

    in_memory = 0
    with h5py.File(stream, "r") as file:
        members = _Members(file, size)
        for place, found in members:
            members.account(length_of_texts(stream, file, found))
            if not isinstance(found, h5py.Dataset):
                continue
            if found.external or found.is_virtual:
                raise InvalidValue(f"its data {_name(place)!r} lies in another file")
            dtype = found.dtype
            if dtype.hasobject:  # texts and references, many of which can be one
                raise InvalidValue(
                    f"its data {_name(place)!r} is not an array of numbers"
                )
            values = found.size if found.shape else 0
            members.account(values * dtype.itemsize)
            in_memory += bytes_of(values, dtype.itemsize)
    return in_memory


# Name and place of the group, () of the file: a long name is shared by all below it.
_Place = tuple[Any, ...]


class _Members:
    """What is in an HDF5 file: itself first, each once whatever its names.

    Arguments:
        file: An open `h5py.File`.
        size: How many bytes it has.
    """

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._size = file, size
        self._unpacked = self._names = 0

    def account(self, size: int) -> None:
        """Raises ValueError if what is read would become too large by so much."""
        self._unpacked += size
        check_size(self._unpacked, self._size)

    def __iter__(self) -> Iterator[tuple[_Place, Any]]:
        import h5py

        waiting: list[tuple[_Place, Any]] = [((), None)]
        seen = set()
        while waiting:
            place, group = waiting.pop()
            found = self._file
            if group is not None:
                if not isinstance(group.get(place[0], getlink=True), h5py.HardLink):
                    raise InvalidValue(f"its member {_name(place)!r} is a link")
                found = group[place[0]]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            yield place, found
            if isinstance(found, h5py.Group):
                waiting += [((key, place), found) for key in self._keys(found)]

    def _keys(self, group: Any) -> list[str]:
        """The names in a group, which may all be one long name in the file."""
        keys: list[bytes] = []

        def hear(name: bytes) -> bool | None:
            self._names += len(name)
            keys.append(name)
            # An error would get lost in HDF5, but anything that is returned ends it.
            return True if self._names > _limit_of(self._size) else None

        group.id.links.iterate(hear)
        check_size(self._names, self._size)
        return [key.decode() for key in keys]


def _name(place: _Place) -> str:
    names = []
    while place:
        key, place = place
        names.append(f"/{key}")
    return "".join(reversed(names))


def check_size(unpacked: int, stored: int) -> None:
    """Raises ValueError if so many stored bytes would become too many in memory."""
    if unpacked > _limit_of(stored):
        raise InvalidValue(
            f"it would grow from {stored:,} to {unpacked:,} bytes when it is read"
        )


def _limit_of(stored: int) -> int:
    return _FREE + _RATIO * stored
