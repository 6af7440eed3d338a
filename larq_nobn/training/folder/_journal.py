"""What a run writes down about itself."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ... import data
from ..._keras import keras
from ..settings import RunSettings
from ._files import write_csv

_PACKAGES = ("tensorflow", "tf-keras", "larq", "numpy")


class Journal(keras.callbacks.Callback):
    """Keeps `history.csv` up to date: one row per epoch, under Keras' names.

    Arguments:
        target: The file to write.
        learning_rate: Gives the learning rate of a step.
        steps: Steps per epoch.
    """

    def __init__(
        self, target: Path, learning_rate: Callable[[int], Any], steps: int
    ) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._target = target
        self._learning_rate = learning_rate
        self._steps = steps
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the epoch's row; `seconds` includes the pass over the test images."""
        row: dict[str, float] = {"epoch": epoch + 1}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        row["learning_rate"] = float(self._learning_rate(epoch * self._steps))
        row["seconds"] = round(time.perf_counter() - self._started, 3)
        self.rows.append(row)
        write_csv(self._target, self.rows)

    def get_state(self) -> list[dict[str, float]]:
        """Returns the rows, for a checkpoint."""
        return self.rows

    def set_state(self, state: list[dict[str, float]]) -> None:
        """Goes on behind the rows of a checkpoint; later ones in the file are lost."""
        self.rows = [dict(row) for row in state]
        write_csv(self._target, self.rows)


def run_record(
    settings: RunSettings, model: keras.Model, history: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Returns what `run.json` holds."""
    info = data.describe(settings.dataset)
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return {
        "settings": asdict(settings),
        "metrics": {name: history[-1][name] for name in names},
        "seconds_per_epoch": [row["seconds"] for row in history],
        "parameters": int(model.count_params()),
        "preprocessing": {
            "image_shape": list(info.image_shape),
            "mean": [float(value) for value in info.mean],
            "std": [float(value) for value in info.std],
            "class_names": list(info.class_names),
        },
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    from ... import __version__

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    versions["tf_keras"] = versions.pop("tf-keras")
    return versions | {"larq_nobn": __version__, "python": platform.python_version()}
