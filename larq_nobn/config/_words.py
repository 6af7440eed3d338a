"""Settings and their values, as tables and pictures say them."""

from __future__ import annotations

from typing import Any

from ._setting import settings_of
from ._settings import Settings

# Their values say what they are.
_SPEAK_FOR_THEMSELVES = ("model", "dataset", "normalization")


def words(name: str) -> str:
    """Returns `"batch size"` for `"batch_size"`."""
    return name.replace("_", " ")


def shown(value: Any) -> str:
    """Returns a setting as a user would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(part)}" for name, part in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(map(shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def named(name: str, value: Any) -> str:
    """Returns the value, and what it is unless it says so itself."""
    if name in _SPEAK_FOR_THEMSELVES:
        return shown(value)
    known = settings_of(Settings).get(name)
    if known is not None and known.unit is not None:
        return f"{shown(value)} {known.unit}"
    return f"{words(name)} {shown(value)}"
