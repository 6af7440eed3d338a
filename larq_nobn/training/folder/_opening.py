"""Finished runs and models, opened without running code from their files."""

from __future__ import annotations

import builtins
import csv
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import data
from ..._checks import check_path
from ..._keras import keras
from ..._larq import without_starvation_warning

_TRUSTED = ("keras", "tf_keras", "larq", "larq_nobn", "builtins")


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
        """What the network was trained on: class names, size, mean and deviation."""
        return dataset_of(self.record)


def dataset_of(record: Mapping[str, Any]) -> data.DatasetInfo:
    """What a run was trained on, by its `run.json`; its images may be gone since."""
    name, found = record["settings"]["dataset"], record["preprocessing"]
    examples = record.get("examples", {})
    known = data.describe(name) if name in data.NAMES else None
    names = tuple(found["class_names"])
    return data.DatasetInfo(
        name=name,
        image_shape=tuple(found["image_shape"]),
        classes=known.classes if known and not names else len(names),
        class_names=names,
        train_examples=examples.get("train", known.train_examples if known else 0),
        test_examples=examples.get("test", known.test_examples if known else 0),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        crop=found.get("crop", known.crop if known else 1.0),
    )


def load_run(folder: str | os.PathLike) -> Run:
    """Opens a run folder; no code from its files is run.

    Arguments:
        folder: What `train` was given as `output`.

    Returns:
        The run, its model compiled as it was for training.

    Raises:
        FileNotFoundError: If the folder, or one of its files, is missing.
        ValueError: If one of its files is damaged or carries code.

    Example:
        ```python
        run = nobn.training.load_run("runs/digits")
        print(run.record["metrics"]["val_accuracy"])
        ```
    """
    record, history = load_record(folder)
    return Run(Path(folder), open_model(folder, compile=True), history, record)


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
        record = json.loads((place / "run.json").read_text(encoding="utf-8"))
        with (place / "history.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        history = [{key: float(row[key]) for key in row} for row in rows]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"{folder} is no finished run: {Path(error.filename).name} is missing. "
            "Give the --output folder of a training run."
        ) from error
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{folder} is damaged: run.json or history.csv cannot be read ({error}). "
            "Train again, or restore it from a copy."
        ) from error
    return record, history


def open_model(path: str | os.PathLike, compile: bool = False) -> keras.Model:
    """Opens a `.keras` or `.h5` file, or that of a run folder, running no code from it.

    Arguments:
        path: A `.keras` file, a whole model in an `.h5` file, or a run folder.
        compile: Whether to restore loss, metrics and optimizer as well.

    Returns:
        The model.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a Keras model, is damaged, or carries code.

    Example:
        ```python
        model = nobn.training.open_model("runs/digits/model.keras")
        ```
    """
    file = Path(check_path("path", path))
    if file.is_dir():
        file = file / "model.keras"
        if not file.is_file():
            raise FileNotFoundError(
                f"{path} holds no model.keras, so it is no finished run. "
                "Give the --output folder of a training run."
            )
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist. Give a run folder, or a .keras or .h5 file."
        )
    if file.suffix not in _CONFIGS:
        raise ValueError(
            f"{file} is not a .keras file or .h5 file. Give a run folder or a file "
            "that Keras saved under a name with one of these endings."
        )
    try:
        config = _CONFIGS[file.suffix](file)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{file} is damaged or not a Keras model: {_first_line(error)}. "
            "Save it again, or train anew."
        ) from error
    _refuse_code(file, config)
    try:
        with without_starvation_warning():
            return keras.models.load_model(file, compile=compile, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{file} cannot be opened as a Keras model: {_first_line(error)}"
        ) from error


def _of_archive(file: Path) -> object:
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("config.json"))


def _of_hdf5(file: Path) -> object:
    import h5py

    with h5py.File(file) as stored:
        if "model_config" not in stored.attrs:
            raise ValueError("it holds weights at most, and no model")
        kept = ("model_config", "training_config")
        return [json.loads(stored.attrs[key]) for key in kept if key in stored.attrs]


# What reads the configuration of a model from a file of some suffix.
_CONFIGS = {".keras": _of_archive, ".h5": _of_hdf5}


def _refuse_code(file: Path, config: object) -> None:
    """Safe mode alone stops Lambdas, yet imports any module that a file names."""
    if isinstance(config, list):
        for part in config:
            _refuse_code(file, part)
    if not isinstance(config, dict):
        return
    if "__lambda__" in config.values() or config.get("function_type") == "lambda":
        raise ValueError(
            f"{file} carries Python code (a Lambda), which is never run from a file. "
            "Replace the Lambda by a layer class and save the model again."
        )
    if isinstance(config.get("module"), str) and not _trusted(config):
        raise ValueError(
            f"{file} wants {config.get('class_name')!r} from the Python module "
            f"{config['module']!r}, which is not trusted. Use layers of Keras, Larq "
            "and larq_nobn, or register your own class with Keras first."
        )
    for part in config.values():
        _refuse_code(file, part)


def _trusted(config: dict[str, Any]) -> bool:
    if keras.saving.get_registered_object(str(config.get("registered_name"))):
        return True
    if config["module"] == "builtins":  # how Keras writes functions known by name
        return not hasattr(builtins, str(config.get("config")))
    return config["module"].split(".")[0] in _TRUSTED


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
