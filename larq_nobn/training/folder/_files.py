"""The files of a run folder, each written whole."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..._checks import check_path
from ..._files import replacing
from ..._keras import keras


def write_json(target: Path, content: Mapping[str, object] | Sequence[object]) -> None:
    """Writes `content` as indented JSON, whole or not at all.

    Arguments:
        target: The file; an earlier one is replaced.
        content: Plain JSON types.

    Raises:
        OSError: If it cannot be written; an earlier file is then left as it was.

    Example:
        ```python
        nobn.training.write_json(Path("result.json"), {"accuracy": 0.98})
        ```
    """
    with replacing(check_path("target", target)) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def save_model(model: keras.Model, path: str | os.PathLike) -> None:
    """Saves a model as a `.keras` file, whole or not at all.

    Arguments:
        model: A built Keras model.
        path: A name that ends in `.keras`; an earlier file is replaced.

    Raises:
        ValueError: If the name ends otherwise.
        OSError: If the file cannot be written; an earlier one is then left as it was.

    Example:
        ```python
        model = nobn.models.ReActNet18((8, 8, 1), 10, width=16, blocks=(1, 1))
        nobn.training.save_model(model, "model.keras")
        ```
    """
    target = Path(check_path("path", path))
    if target.suffix != ".keras":
        raise ValueError(
            f"{target} is no name for a Keras model. Choose one that ends in .keras."
        )
    with replacing(target) as temporary:
        model.save(temporary)


def write_csv(target: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes one line per row under the names of all, whole or not at all.

    What a row lacks is NaN.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(target) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names, restval="nan")
        writer.writeheader()
        writer.writerows(rows)
