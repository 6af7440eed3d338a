"""The names of the files of a run folder, and how JSON is written."""

from __future__ import annotations

import json
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
