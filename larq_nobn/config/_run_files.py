"""The files of a run folder: their names, and how they are read and written."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .._errors import InvalidValue
from .._files import check_shape, parse_json, replacing

CHECKPOINTS = "checkpoints"
HISTORY_FILE = "history.csv"
LOCK = ".lock"
LOGS = "logs"
MODEL_FILE = "model.keras"
RECORD_FILE = "run.json"
SETTINGS_FILE = "settings.json"
# Key of the digest of the images, in settings.json.
IMAGES_SHA256 = "pictures"
# Run folders inside a run folder.
INNER_RUNS = ("stage1", "teacher")
# The path of the image folder, kept out of the files that are passed on.
PLACE_FILE = "images.txt"
OURS = {
    *(CHECKPOINTS, SETTINGS_FILE, RECORD_FILE, *INNER_RUNS),
    *(MODEL_FILE, "best.keras", "last.keras", HISTORY_FILE, "curves.png", LOGS),
    PLACE_FILE,
}


def with_place(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run, with the path of its image folder if known."""
    with suppress(OSError, UnicodeDecodeError):
        place = (folder / PLACE_FILE).read_text(encoding="utf-8")
        if Path(place).name == settings["dataset"]:
            return {**settings, "dataset": place}
    return dict(settings)


def read_object(file: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a JSON file, which must have the types that `parts` says."""
    with intact(file):
        content = parse_json(file.read_bytes().decode())
        check_shape(content, parts)
    return content


@contextmanager
def intact(file: Path) -> Iterator[None]:
    """Turns errors of reading a file into a ValueError that names the file."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InvalidValue(
            f"{file} is damaged: {str(error)[:80]}. Restore it from a copy, or train "
            "again in another folder."
        ) from error


def write_json(target: Path, content: Mapping[str, object] | Sequence[object]) -> None:
    """Writes what `as_json` returns to a file, atomically."""
    text = as_json(content)
    with replacing(target) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def as_json(content: Mapping[str, object] | Sequence[object]) -> str:
    """Returns `content` as indented JSON, with null for NaN and infinity."""
    return json.dumps(_without_nan(content), indent=2, allow_nan=False)


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
