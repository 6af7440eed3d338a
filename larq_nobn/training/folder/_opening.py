"""Finished runs, opened without running code from their files."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import data
from ..._checks import check_path
from ..._errors import InvalidValue
from ..._files import check_shape, parse_json
from ..._keras import keras
from ...config._fields import settings_of
from ...config._settings import Settings
from ...loading import open_model

_NUMBER = (int, float)
# What a run has before it is trained.
SETTINGS: dict[str, Any] = {n: each.stored for n, each in settings_of(Settings).items()}
RECORD: dict[str, Any] = {"settings": SETTINGS}
# What else is needed to open a run with its images.
WHOLE: dict[str, Any] = {
    "settings": SETTINGS,
    "metrics": {
        f"{split}_{name}": _NUMBER
        for split in ("val", "test")
        for name in ("accuracy", "loss")
    },
    "seconds_per_epoch": [_NUMBER],
    "parameters": int,
    "preprocessing": {
        "image_shape": [int],
        "mean": [_NUMBER],
        "std": [_NUMBER],
        "class_names": [str],
        "crop": _NUMBER,
    },
    "examples": {"train": int, "test": int},
    "history_split": str,
}
_OF_DATASET: dict[str, Any] = {
    "settings": {"dataset": str},
    **{name: WHOLE[name] for name in ("preprocessing", "examples")},
}
# What a comparison reads of a run, and of each epoch.
COMPARED: dict[str, Any] = {
    "metrics": WHOLE["metrics"],
    "versions": {},
    "history_split": str,
}
_OF_EPOCH = dict.fromkeys(("epoch", "val_accuracy", "seconds"), float)


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
    try:
        check_shape(record, _OF_DATASET)
    except ValueError as error:
        raise InvalidValue(
            f"record is not what a run.json contains: {error}. Pass the record of "
            "load_run, or what load_record returned first."
        ) from error
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


def test_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Loss and accuracy on the test images, by `run.json`."""
    return {name: record["metrics"][f"test_{name}"] for name in ("loss", "accuracy")}


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
    check_content(record, WHOLE, Path(folder, "run.json"))
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
        record = read_object(place / "run.json")
        if isinstance(metrics := record.get("metrics"), dict):
            # What JSON has no number for.
            record["metrics"] = {
                name: math.nan if value is None else value
                for name, value in metrics.items()
            }
        check_content(record, RECORD, place / "run.json")
        history = _rows((place / "history.csv").read_bytes(), place / "history.csv")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"{folder} is not a finished run: {Path(error.filename).name} not found. "
            "Give the --output folder of a training run."
        ) from error
    return record, history


def _rows(content: bytes, file: Path) -> list[dict[str, float]]:
    """The rows of a history; each has a number for every name."""
    rows: list[dict[str, float]] = []
    try:
        names, *lines = filter(None, csv.reader(io.StringIO(content.decode())))
    except (ValueError, csv.Error) as error:
        raise damaged(file, str(error)) from error
    for line in lines:
        try:
            rows.append(dict(zip(names, map(float, line), strict=True)))
        except ValueError as error:
            why = f"row {len(rows) + 1} is not a number for each column"
            raise damaged(file, why) from error
    return rows


def read_object(file: Path) -> dict[str, Any]:
    """Reads a file that contains a JSON object.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it contains something else; names it.
    """
    try:
        content = parse_json(file.read_bytes().decode())
        check_shape(content, {})
    except ValueError as error:
        raise damaged(file, str(error)) from error
    return content


def check_compared(
    record: Mapping[str, Any], history: Sequence[Mapping[str, float]], folder: Path
) -> None:
    """Rejects a run without the numbers that a comparison shows of it."""
    check_content(record, COMPARED, folder / "run.json")
    check_content([*history], [_OF_EPOCH], folder / "history.csv")
    if not history:
        raise damaged(folder / "history.csv", "it has no epoch")


def check_content(value: Any, wanted: Any, file: Path) -> None:
    """Rejects what a file contains if it is of another shape.

    Raises:
        ValueError: If something is missing or of another type; names file and place.
    """
    try:
        check_shape(value, wanted)
    except ValueError as error:
        raise damaged(file, str(error)) from error


def damaged(file: Path, why: str) -> ValueError:
    """Returns what is raised for a file that no run writes like this."""
    return InvalidValue(
        f"{file} is damaged: {why}. Restore it from a copy, or train again in another "
        "folder."
    )
