"""The names of the files of a run folder, and how JSON is written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._files import replacing

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
