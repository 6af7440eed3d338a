"""Checks that every part of a flatbuffer lies inside it, before anything reads it."""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

# What the generated classes have besides the fields of their table.
_NO_FIELDS = ("Init",)
_ENDINGS = ("IsNone", "AsNumpy", "Length", "BufferHasIdentifier")
# Unions tell their type in a second field, which names the class.
_UNIONS = {
    "BuiltinOptions": "BuiltinOptions",
    "BuiltinOptions2": "BuiltinOptions2",
    "Details": "QuantizationDetails",
    "ArraySegments": "SparseIndexVector",
    "ArrayIndices": "SparseIndexVector",
}


@cache
def _fields(table: type) -> tuple[tuple[str, str], ...]:
    """The fields of a generated class, and which form each has."""
    names = [name for name in dir(table) if name[0].isupper()]
    found = []
    for name in names:
        if name.startswith("GetRootAs") or name.endswith((*_ENDINGS, *_NO_FIELDS)):
            continue
        form = "vector" if f"{name}Length" in names else "value"
        found.append((name, "numbers" if f"{name}AsNumpy" in names else form))
    return tuple(found)


class Structure:
    """Walks through all tables, vectors and strings of a flatbuffer.

    Native code trusts the offsets in a file and reads wherever they lead. Offsets lead
    forward only, so that there are no circles; but parts may be used many times, and
    a file that comes to more than twice its size that way is not taken.

    Arguments:
        content: The flatbuffer.
        schema: The module of its generated classes.
    """

    def __init__(self, content: bytes, schema: Any) -> None:
        self._content = content
        self._schema = schema
        self._left = 2 * len(content)

    def check(self, table: Any) -> None:
        """Checks a table and all that it holds.

        Raises:
            ValueError, struct.error: If something lies outside the flatbuffer.
        """
        self._check_offsets(table._tab.Pos)
        for name, form in _fields(table.__class__):
            if form == "numbers":
                self._spend(getattr(table, f"{name}Length")())
                getattr(table, f"{name}AsNumpy")()  # all of it, or an error
            elif form == "vector":
                length = getattr(table, f"{name}Length")()
                self._spend(length)
                for i in range(length):
                    self._check_value(getattr(table, name)(i))
            else:
                value = getattr(table, name)()
                if name in _UNIONS and value is not None:
                    value = self._member(table, name, value)
                self._check_value(value)

    def _check_value(self, value: Any) -> None:
        if isinstance(value, bytes):
            self._spend(len(value))
            # A string ends with a zero; one with a wrong length runs across others.
            if "\0" in value.decode():
                raise ValueError("a string without end")
        elif hasattr(value, "_tab"):
            self.check(value)

    def _member(self, table: Any, name: str, union: Any) -> Any:
        number = getattr(table, f"{name}Type")()
        kinds = vars(getattr(self._schema, _UNIONS[name])).items()
        kind = next((k for k, v in kinds if v == number), "NONE")
        if kind == "NONE":
            return None
        member = getattr(self._schema, kind)()
        member.Init(union.Bytes, union.Pos)
        return member

    def _check_offsets(self, position: int) -> None:
        (back,) = struct.unpack_from("<i", self._content, position)
        start = position - back
        if start < 0:
            raise ValueError("a table whose description lies in front of the file")
        described, size = struct.unpack_from("<HH", self._content, start)
        fields = struct.unpack_from(f"<{described // 2 - 2}H", self._content, start + 4)
        outside = position + size > len(self._content)
        if outside or any(field >= size for field in fields if field):
            raise ValueError("a field outside its table")
        self._spend(size)

    def _spend(self, elements: int) -> None:
        self._left -= elements
        if self._left < 0:
            raise ValueError("more parts than bytes")
