"""What a finished run leaves: its model, its curves, and the record of it all."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ... import data
from ..._keras import keras
from ..._version import __version__
from ..settings import RunSettings
from ._curves import draw_curves
from ._files import save_model, write_json

_PACKAGES = ("tensorflow", "tf-keras", "larq", "numpy")


def plain(settings: RunSettings) -> dict[str, Any]:
    """Settings as JSON gives them back: with lists in the place of tuples."""
    return json.loads(json.dumps(asdict(settings)))


def finished(
    folder: Path,
    settings: RunSettings,
    network: keras.Model,
    history: Sequence[dict[str, float]],
    beginning: Mapping[str, Any],
    history_of: str,
    tested: Mapping[str, float],
) -> dict[str, Any]:
    """Writes the last files of a run, and returns what `run.json` holds.

    Arguments:
        folder: The run folder.
        settings: Those of the run.
        network: What was trained.
        history: A row per epoch.
        beginning: What is said of the weights that it began with.
        history_of: The split that `val_*` in the history are of.
        tested: Loss and accuracy on the test images.
    """
    record = {**_record(settings, network, history, tested), **beginning}
    record["history_split"] = history_of
    save_model(network, folder / "model.keras")
    said = (settings.model, settings.normalization, settings.dataset)
    title = ", ".join(each for each in said if each is not None)
    draw_curves(folder / "curves.png", title, history, history_of)
    write_json(folder / "run.json", record)  # last: its presence means finished
    return record


def _record(
    settings: RunSettings,
    model: keras.Model,
    history: Sequence[dict[str, float]],
    tested: Mapping[str, float],
) -> dict[str, Any]:
    info = data.describe(**settings.images)
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return {
        "settings": asdict(settings),
        "metrics": {
            **{name: history[-1][name] for name in names},
            **{f"test_{name}": float(tested[name]) for name in ("loss", "accuracy")},
        },
        "seconds_per_epoch": [row["seconds"] for row in history],
        "parameters": int(model.count_params()),
        "preprocessing": {
            "image_shape": list(info.image_shape),
            "mean": [float(value) for value in info.mean],
            "std": [float(value) for value in info.std],
            "crop": info.crop,
            "class_names": list(info.class_names),
        },
        "examples": {
            "train": info.train_examples,
            **(
                {"validation": info.validation_examples}
                if info.validation_examples
                else {}
            ),
            "test": info.test_examples,
        },
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    versions["tf_keras"] = versions.pop("tf-keras")
    return versions | {"larq_nobn": __version__, "python": platform.python_version()}
