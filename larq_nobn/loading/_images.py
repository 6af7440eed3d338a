"""What a `.keras` file says of the images that its model classifies."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from .._errors import InvalidValue
from .._files import check_shape, parse_json
from ..data import DatasetInfo

# A file of the archive, beside those of Keras, which leaves it alone.
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


def read_dataset(file: Path) -> DatasetInfo | None:
    """Returns the description in a model file; None where there is none.

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
    known = {name: described[name] for name in _FIELDS}
    lists = {name: tuple(v) for name, v in known.items() if isinstance(v, list)}
    return DatasetInfo(**{**known, **lists}, holdout=described.get("holdout"))
