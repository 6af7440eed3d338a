"""Finished runs, opened without running code from their files."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ... import data
from ..._checks import check_path
from ..._errors import InvalidValue
from ..._files import parse_json
from ..._keras import keras
from ...config import _run_files
from ...config._settings import Settings
from ...loading import open_model

SETTINGS = [field.name for field in fields(Settings)]
# The parts of a record; a comparison reads the first ones alone.
_PARTS = ("settings", "metrics", "versions", "history_split")
_METRICS = ("val_loss", "val_accuracy", "test_loss", "test_accuracy")
_COLUMNS = ("epoch", "val_accuracy", "seconds")
_MORE_PARTS = ("preprocessing", "examples", "parameters", "seconds_per_epoch")


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Arguments:
        folder: Where its files are.
        model: The trained model.
        history: One row per epoch, as in `history.csv`.
        record: What `run.json` holds: settings, versions, metrics.
    """

    folder: Path
    model: keras.Model
    history: list[dict[str, float]]
    record: dict[str, Any]

    @property
    def dataset(self) -> data.DatasetInfo:
        """Class names, image size, mean and standard deviation of the training data."""
        return dataset_of(self.record)


def dataset_of(record: Mapping[str, Any]) -> data.DatasetInfo:
    """What a run was trained on, by its `run.json`; its images may be gone since.

    Raises:
        ValueError: If `record` is nothing that `run.json` contains.
    """
    if not isinstance(record, Mapping) or "preprocessing" not in record:
        raise InvalidValue(
            "record is not what a run.json contains. Pass the record of load_run, or "
            "what load_record returned first."
        )
    name, preprocessing = record["settings"]["dataset"], record["preprocessing"]
    examples, names = record["examples"], tuple(preprocessing["class_names"])
    known = data.open_dataset(name).info if name in data.NAMES else None
    return data.DatasetInfo(
        name=name,
        image_shape=tuple(preprocessing["image_shape"]),
        classes=known.classes if known and not names else len(names),
        class_names=names,
        train_examples=examples["train"],
        test_examples=examples["test"],
        mean=tuple(preprocessing["mean"]),
        std=tuple(preprocessing["std"]),
        crop=preprocessing["crop"],
        validation_examples=examples.get("validation", 0),
    )


def load_run(folder: str | os.PathLike, trust: bool = False) -> Run:
    """Opens a run folder; no code from its files is run.

    Arguments:
        folder: What `train` was given as `output`.
        trust: Whether to open its model as Keras does, which runs the code that it
            carries. For runs of your own.

    Returns:
        The run, its model compiled as it was for training.

    Raises:
        FileNotFoundError: If the folder, or one of its files, is missing.
        ValueError: If one of its files is damaged or carries code.

    Example:
        ```python
        run = nobn.training.load_run("runs/digits")
        print(run.record["metrics"]["test_accuracy"])
        ```
    """
    record, history = load_record(folder)
    check_parts(record, _MORE_PARTS, Path(folder, "run.json"))
    return Run(Path(folder), open_model(folder, True, trust), history, record)


def load_record(
    folder: str | os.PathLike,
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Reads `run.json` and `history.csv` of a run folder; its model stays closed.

    Arguments:
        folder: What `train` was given as `output`.

    Returns:
        What `run.json` holds, and the rows of `history.csv`.

    Raises:
        FileNotFoundError: If the folder, or one of the two files, is missing.
        ValueError: If one of them is damaged.

    Example:
        ```python
        record, history = nobn.training.load_record("runs/digits")
        print(record["settings"]["learning_rate"], history[-1]["val_accuracy"])
        ```
    """
    place = Path(check_path("folder", folder))
    try:
        record = read_object(place / "run.json", _PARTS)
        check_parts(record["settings"], SETTINGS, place / "run.json")
        check_parts(record["metrics"], _METRICS, place / "run.json")
        with intact(place / "run.json"):  # JSON has no number for NaN
            record["metrics"] = {
                name: math.nan if value is None else float(value)
                for name, value in record["metrics"].items()
            }
        with intact(place / "history.csv"):
            lines = (place / "history.csv").read_text(encoding="utf-8").splitlines()
            history = [
                {name: float(value) for name, value in row.items()}
                for row in csv.DictReader(lines)
            ]
        check_parts(history[0] if history else {}, _COLUMNS, place / "history.csv")
    except (FileNotFoundError, NotADirectoryError) as error:
        if (place / _run_files.SETTINGS_FILE).exists():
            raise FileNotFoundError(
                f"The training in {folder} is not finished. Repeat its command with "
                "--resume (resume=True)."
            ) from error
        raise FileNotFoundError(
            f"{folder} is not a finished run: {Path(error.filename).name} not found. "
            "Give the --output folder of a training run."
        ) from error
    return record, history


def read_object(file: Path, parts: Collection[str]) -> dict[str, Any]:
    """Reads a file that contains a JSON object with these parts.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it contains something else; names it.
    """
    with intact(file):
        content = parse_json(file.read_bytes().decode())
    check_parts(content, parts, file)
    return content


def check_parts(content: Any, parts: Collection[str], file: Path) -> None:
    """Rejects what is no object with these parts in a file."""
    with intact(file):
        if not isinstance(content, dict):
            raise InvalidValue("it is no object of names and values")
        if missing := [name for name in parts if name not in content]:
            raise InvalidValue(f"{missing[0]} is missing")


@contextmanager
def intact(file: Path) -> Iterator[None]:
    """Raises a ValueError that names a file if its content is no run's."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise InvalidValue(
            f"{file} is damaged: {str(error)[:80]}. Restore it from a copy, or train "
            "again in another folder."
        ) from error
