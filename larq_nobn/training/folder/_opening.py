"""Finished runs, opened without running code from their files."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ... import data
from ..._checks import check_path
from ..._errors import InvalidValue
from ..._files import check_shape, parse_json
from ..._keras import keras
from ...config import _run_files
from ...config._settings import Settings
from ...loading import open_model

SETTINGS = dict.fromkeys((field.name for field in fields(Settings)), (object, bool))
# The parts of a record; a comparison reads the first ones alone.
_METRICS = ("val_loss", "val_accuracy", "test_loss", "test_accuracy")
_PARTS = {
    "settings": SETTINGS,
    "metrics": dict.fromkeys(_METRICS, object),
    "versions": {},
    "history_split": str,
}
_COLUMNS = dict.fromkeys(("epoch", "val_accuracy", "seconds"), float)
_MORE_PARTS = {
    "preprocessing": {},
    "examples": {},
    "parameters": int,
    "seconds_per_epoch": list,
}


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
    history: list[dict[str, float]] = field(repr=False)
    record: dict[str, Any] = field(repr=False)

    @property
    def dataset(self) -> data.DatasetInfo:
        """Class names, image size, mean and standard deviation of the training data.

        The images may be gone since.
        """
        name, steps = self.record["settings"]["dataset"], self.record["preprocessing"]
        examples, names = self.record["examples"], tuple(steps["class_names"])
        holdout = self.record["settings"]["holdout"]
        return data.DatasetInfo(
            name=name,
            image_shape=tuple(steps["image_shape"]),
            classes=len(names) or data.open_dataset(name).info.classes,
            class_names=names,
            train_examples=examples["train"],
            test_examples=examples["test"],
            mean=tuple(steps["mean"]),
            std=tuple(steps["std"]),
            crop=steps["crop"],
            validation_examples=examples.get("validation", 0),
            holdout=None if name in data.NAMES else holdout,
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
    with intact(Path(folder, "run.json")):
        check_shape(record, _MORE_PARTS)
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
            check_shape(history[0] if history else {}, _COLUMNS)
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


def read_object(file: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Reads a file that contains a JSON object with parts of these types.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it contains something else; names it.
    """
    with intact(file):
        content = parse_json(file.read_bytes().decode())
        check_shape(content, parts)
    return content


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
