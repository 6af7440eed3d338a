"""The description of the images that a model classifies, in its `.keras` file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary
from zipfile import BadZipFile, ZipFile

from .._errors import InvalidValue
from .._files import check_shape, parse_json
from ..data import DatasetInfo

# A file in the archive, which Keras ignores.
_ENTRY = "larq_nobn.dataset.json"
_NUMBER = (int, float)
_FIELDS = {
    "name": str,
    "image_shape": [int],
    "classes": int,
    "class_names": [str],
    "mean": [_NUMBER],
    "std": [_NUMBER],
    "crop": _NUMBER,
}


def write_dataset(file: Path, info: DatasetInfo) -> None:
    """Adds the description of a data set to a `.keras` file."""
    described = {name: getattr(info, name) for name in (*_FIELDS, "holdout")}
    with ZipFile(file, "a") as archive:
        archive.writestr(_ENTRY, json.dumps(described, default=float))


# The images that open models classify, read from or saved to their files.
_described: WeakKeyDictionary[Any, DatasetInfo] = WeakKeyDictionary()


def describe(model: Any, info: DatasetInfo) -> None:
    """Remembers which images an open model classifies."""
    _described[model] = info


def described(model: Any) -> DatasetInfo | None:
    """Returns which images an open model classifies, if that is known."""
    try:
        return _described.get(model)
    except TypeError:  # it cannot be a key
        return None


def read_dataset(file: Path) -> DatasetInfo | None:
    """Returns the description in a model file, or None.

    Raises:
        ValueError: If it is damaged.
    """
    if file.suffix != ".keras":
        return None
    try:
        with ZipFile(file) as archive:
            if _ENTRY not in archive.namelist():
                return None
            described = parse_json(archive.read(_ENTRY))
        check_shape(described, _FIELDS)
    except (ValueError, BadZipFile) as error:
        raise InvalidValue(
            f"{file} describes its images in {_ENTRY}, which is damaged: {error}. Save "
            "the model again."
        ) from error
    fields = {name: described[name] for name in _FIELDS}
    lists = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
    return DatasetInfo(**{**fields, **lists}, holdout=described.get("holdout"))
