"""The history of a run: a row per epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..._keras import keras
from ._files import write_csv


class Stopwatch:
    """Measures an epoch, also one whose begin was in another process."""

    def __init__(self) -> None:
        self._started = 0.0

    def start(self) -> None:
        """Begins at 0."""
        self._started = time.perf_counter()

    def get_state(self) -> float:
        """Returns the seconds so far."""
        return time.perf_counter() - self._started

    def set_state(self, state: float) -> None:
        """Begins at so many seconds."""
        self._started = time.perf_counter() - state


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
        self.stopwatch = Stopwatch()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self.stopwatch.start()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the epoch's row; `seconds` includes the pass over the test images."""
        row: dict[str, float] = {"epoch": epoch + 1}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        row["learning_rate"] = float(self._learning_rate(epoch * self._steps))
        row["seconds"] = round(self.stopwatch.get_state(), 3)
        self.rows.append(row)
        write_csv(self._target, self.rows)

    def get_state(self) -> list[dict[str, float]]:
        """Returns the rows, for a checkpoint."""
        return self.rows

    def set_state(self, state: list[dict[str, float]]) -> None:
        """Goes on behind the rows of a checkpoint; later ones in the file are lost."""
        self.rows = [dict(row) for row in state]
        write_csv(self._target, self.rows)
