"""HDF5 files that name one text many times, as no program writes them."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py

LONG = "t" * (1 << 16)
# Texts lie somewhere else; in their place are a length and an address.
_PLACE = 16


def place_of_text(content: bytes, text: str, start: int = 0) -> int:
    """Where the next text of this length is named."""
    while True:
        start = content.index(struct.pack("<I", len(text)), start)
        (heap,) = struct.unpack_from("<Q", content, start + 4)
        if content[heap : heap + 4] == b"GCOL":
            return start
        start += 1


def name_one_text_often(path: Path, group: str, name: str, count: int) -> None:
    """Adds an attribute that is a list of one text, which is in the file once."""
    with h5py.File(path, "a") as made:
        made[group].attrs[name] = [LONG] + ["t"] * (count - 1)
    content = bytearray(path.read_bytes())
    at = place_of_text(content, LONG)
    content[at : at + count * _PLACE] = content[at : at + _PLACE] * count
    path.write_bytes(content)
