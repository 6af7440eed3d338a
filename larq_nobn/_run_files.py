"""The files of a run folder: their names, who owns one, and how JSON is written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ._checks import check_path
from ._errors import InvalidType
from ._files import replacing

CHECKPOINTS = "checkpoints"
HISTORY_FILE = "history.csv"
LOCK = ".lock"
MODEL_FILE = "model.keras"
RECORD_FILE = "run.json"
SETTINGS_FILE = "settings.json"
# Further runs, in folders of the same kind.
PARTS = ("stage1", "teacher")
OURS = {
    *(CHECKPOINTS, SETTINGS_FILE, RECORD_FILE, *PARTS),
    *(MODEL_FILE, HISTORY_FILE, "curves.png", "logs"),
}


def run_that_owns(path: str | os.PathLike) -> Path | None:
    """Returns the run folder that a file belongs to; None for files beside a run.

    Arguments:
        path: A file, which need not exist; through links it is the file at their end,
            or the link.
    """
    name = os.path.abspath(path)
    parent, last = os.path.split(name)
    for place in {Path(os.path.realpath(parent), last), Path(os.path.realpath(name))}:
        for folder in place.parents:
            owned = place.relative_to(folder).parts[0] in {*OURS, LOCK}
            if owned and _is_run_folder(folder):
                return folder
    return None


def _is_run_folder(folder: Path) -> bool:
    """Whether a run is there, finished or not."""
    states = (
        (RECORD_FILE, MODEL_FILE, HISTORY_FILE),
        (SETTINGS_FILE, CHECKPOINTS, LOCK),
    )
    return any(
        (folder / first).is_file() and any((folder / each).exists() for each in others)
        for first, *others in states
    )


def write_json(target: Path, content: Mapping[str, object] | Sequence[object]) -> None:
    """Writes `content` as indented JSON, atomically.

    Arguments:
        target: The file; an earlier one is replaced.
        content: Plain JSON types.

    Raises:
        OSError: If it cannot be written; an earlier file is then left as it was.
        TypeError: If `content` is none of these types.

    Example:
        ```python
        nobn.training.write_json(Path("result.json"), {"accuracy": 0.98})
        ```
    """
    path = check_path("target", target)
    try:
        text = json.dumps(content, indent=2)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidType(
            f"content cannot be written as JSON: {error}. Pass dictionaries with texts "
            "as keys, lists, texts, numbers, True, False and None."
        ) from error
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
