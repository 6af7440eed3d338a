"""Texts in attributes of HDF5 files: how long they are, before they are read.

A list of texts is kept as a list of places, 16 bytes each, and many of these can be one
place: a file of a megabyte may name a text of a megabyte a thousand times. HDF5 reads
all of a list at once, and tells nothing of it before. So the places are read here, from
the header of the object that has the attribute (chapters IV.A.1 and IV.A.2.m of the
"HDF5 File Format Specification Version 3.0").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from struct import calcsize, unpack
from typing import IO, Any

import numpy as np

from ._errors import InvalidValue

# A text in a list: its length, and where it lies.
_PLACE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_ELSEWHERE = 2  # flag of a message that only says where the message is


def length_of_texts(stream: IO[bytes], file: Any, found: Any) -> int:
    """Returns how many bytes the texts in the attributes of an object have.

    Arguments:
        stream: The bytes of the file.
        file: The same as an open `h5py.File`.
        found: The file, or a group or dataset in it.

    Raises:
        ValueError: If an attribute is neither text nor number, or kept in a way that
            Keras does not write.
    """
    import h5py

    places: dict[str, bytes] | None = None
    total = 0
    for name in found.attrs:
        attribute = found.attrs.get_id(name)
        if not attribute.dtype.hasobject:
            continue
        if h5py.check_string_dtype(attribute.dtype) is None:
            raise InvalidValue(f"its attribute {name!r} is neither text nor number")
        if places is None:
            at = h5py.h5o.get_info(found.id).addr + file.userblock_size
            places = dict(_attributes(_Header(stream, file, at)))
        count = math.prod(attribute.shape or ()) if attribute.shape is not None else 0
        kept = places.get(name, b"")
        if len(kept) < count * _PLACE.itemsize:
            raise InvalidValue(f"its attribute {name!r} is not kept as Keras keeps it")
        total += int(np.frombuffer(kept, _PLACE, count)["length"].sum(dtype=np.uint64))
    return total


class _Header:
    """The messages that describe one object.

    Arguments:
        stream: The bytes of the file.
        file: The same as an open `h5py.File`.
        at: Where the header is.
    """

    def __init__(self, stream: IO[bytes], file: Any, at: int) -> None:
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise InvalidValue("its addresses are not of 64 bits")
        self._stream, self._base = stream, file.userblock_size
        self._size = stream.seek(0, 2)
        self._at = at

    def messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Yields kind, flags and content of each."""
        blocks, seen = [self._first()], set()
        while blocks:
            start, size, form = blocks.pop()
            if start in seen:
                raise InvalidValue("an object in it is described in a circle")
            seen.add(start)
            content, at, before = self._read(start, size), 0, calcsize(form)
            while at + before <= len(content):
                kind, length, flags = unpack(form, content[at : at + before])
                at += before
                message = content[at : at + length]
                at += length
                if kind == _CONTINUATION:
                    start, size = unpack("<QQ", message[:16])
                    start += self._base
                    if form[1:] != "HHB3x":  # a signature before, a digest after
                        start, size = start + 4, size - 8
                    blocks.append((start, size, form))
                yield kind, flags, message

    def _first(self) -> tuple[int, int, str]:
        """Where the first messages are, how many bytes, and what comes before each."""
        at = self._at
        if self._read(at, 4) != b"OHDR":
            return at + 16, *unpack("<I", self._read(at + 8, 4)), "<HHB3x"
        (flags,) = self._read(at + 5, 1)
        at += 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(self._read(at, width), "little")
        return at + width, size, "<BHB2x" if flags & 4 else "<BHB"

    def _read(self, start: int, size: int) -> bytes:
        if not 0 <= start <= start + size <= self._size:
            raise InvalidValue("an object in it is described outside of it")
        self._stream.seek(start)
        return self._stream.read(size)


def _attributes(header: _Header) -> Iterator[tuple[str, bytes]]:
    """Yields name and value of each attribute, as they lie in the file."""
    seen = set()
    for kind, flags, message in header.messages():
        if kind != _ATTRIBUTE or flags & _ELSEWHERE:
            continue
        version, *sizes = unpack("<BxHHH", message[:8])
        at = 9 if version == 3 else 8
        name = message[at : at + sizes[0]].split(b"\0")[0]
        if name in seen:
            raise InvalidValue("two of its attributes have one name")
        seen.add(name)
        if version == 1:
            sizes = [-(-size // 8) * 8 for size in sizes]
        yield name.decode(errors="surrogateescape"), message[at + sum(sizes) :]
