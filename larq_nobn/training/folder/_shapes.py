"""What the JSON files of a run have to look like when they are read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._files import read_file

_NUMBER = (int, float)
_TEXT = (str, type(None))
# What every run has, whatever version wrote it.
SETTINGS: dict[str, Any] = {"epochs": int}
RECORD: dict[str, Any] = {"settings": SETTINGS}
# What else is needed to open a run with its images.
WHOLE: dict[str, Any] = {
    "settings": {**SETTINGS, "dataset": str},
    "metrics": {"val_accuracy": _NUMBER, "val_loss": _NUMBER},
    "seconds_per_epoch": [_NUMBER],
    "parameters": int,
    "preprocessing": {
        "image_shape": [int],
        "mean": [_NUMBER],
        "std": [_NUMBER],
        "class_names": [str],
    },
}
# Of these types where they are there.
_OPTIONAL: dict[str, Any] = {
    "settings": {
        "model": str,
        "dataset": str,
        "seed": int,
        "normalization": _TEXT,
        "recipe": _TEXT,
        "image_size": (int, list, type(None)),
        "holdout": _NUMBER,
        "validation": _NUMBER,
        "skip_unreadable": bool,
        "data_dir": _TEXT,
        "init": _TEXT,
        "init_sha256": _TEXT,
        "network": dict,
    },
    "metrics": {},
    "versions": {},
    "preprocessing": {"crop": _NUMBER},
    "examples": {"train": int, "test": int},
}


def read_object(file: Path) -> dict[str, Any]:
    """Reads a file that contains a JSON object.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it contains something else; names it.
    """
    try:
        content = json.loads(read_file(file).decode())
    except (ValueError, RecursionError) as error:
        raise damaged(file, str(error)) from error
    check_shape(content, {}, file)
    return content


def check_settings(content: Mapping[str, Any], file: Path) -> None:
    """Rejects settings of another shape than those of a run."""
    check_shape(content, SETTINGS, file)
    _check_optional({"settings": content}, file)


def check_record(content: Mapping[str, Any], wanted: Any, file: Path) -> None:
    """Rejects a `run.json` of another shape.

    Raises:
        ValueError: If something is missing or of another type; names file and place.
    """
    check_shape(content, wanted, file)
    _check_optional(content, file)
    if "preprocessing" in wanted:
        _check_preprocessing(content["preprocessing"], file)


def check_shape(value: Any, wanted: Any, file: Path, place: str = "it") -> None:
    """Rejects what is not of the wanted types.

    Arguments:
        value: What a file contains.
        wanted: A type, or several; a list of one, for every element; or a dictionary
            of those that have to be there.
        file: For the message.
        place: Where in the file.
    """
    kinds: Any = wanted if isinstance(wanted, type | tuple) else type(wanted)
    flag = isinstance(value, bool) and kinds is not bool
    if flag or not isinstance(value, kinds):
        raise damaged(file, f"{place} is {_short(value)}")
    if isinstance(wanted, dict):
        for name, inner in wanted.items():
            inside = name if place == "it" else f"{place}.{name}"
            if name not in value:
                raise damaged(file, f"{inside} is missing")
            check_shape(value[name], inner, file, inside)
    elif isinstance(wanted, list):
        for each in value:
            check_shape(each, wanted[0], file, place)


def damaged(file: Path, why: str) -> ValueError:
    """Returns what is raised for a file that no run writes like this."""
    return ValueError(
        f"{file} is damaged: {why}. Restore it from a copy, or train again in another "
        "folder."
    )


def _check_optional(content: Mapping[str, Any], file: Path) -> None:
    for name, fields in _OPTIONAL.items():
        if name in content:
            check_shape(content[name], {}, file, name)
            known = {key: kind for key, kind in fields.items() if key in content[name]}
            check_shape(content[name], known, file, name)


def _check_preprocessing(found: Mapping[str, Any], file: Path) -> None:
    shape, mean, std = (found[name] for name in ("image_shape", "mean", "std"))
    if len(shape) != 3 or min(shape) < 1:
        raise damaged(file, f"preprocessing.image_shape is {_short(shape)}")
    fits = len(mean) == len(std) and len(mean) in (0, 1, shape[2])
    if not fits or not all(each > 0 for each in std):
        raise damaged(file, f"preprocessing.std is {_short(std)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
