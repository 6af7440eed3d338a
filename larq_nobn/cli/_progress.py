"""Progress of trainings; imported by commands that train, since Keras is its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from .. import data, training
from .._keras import keras
from ..training._choice import is_over
from ..training._trainer import watched_split
from ._console import console, percent, progress


@contextmanager
def training_progress(
    settings: training.RunSettings,
) -> Iterator[keras.callbacks.Callback]:
    """A Keras callback that shows a bar, and a line for each finished epoch."""
    with progress() as bar:
        yield _TrainingProgress(bar, settings)


@contextmanager
def comparing_progress(
    cells: Mapping[str, training.RunSettings], finished: int, console: Console
) -> Iterator[Callable[[str, Mapping[str, float]], None]]:
    """Yields what shows a finished epoch of a run: a line, and a bar over all runs."""
    with progress() as bar:
        task = bar.add_task("runs", total=len(cells), completed=finished)
        rows: dict[str, list[Mapping[str, float]]] = {}

        def show(place: str, row: Mapping[str, float]) -> None:
            name, *part = Path(place).parts
            settings, epoch = cells[name], int(row["epoch"])
            console.print(_line(settings, epoch, row, f"{place}, "), soft_wrap=True)
            rows.setdefault(place, []).append(row)
            if not part and is_over(settings, rows[place]):
                bar.advance(task)

        yield show


def _line(
    settings: training.RunSettings,
    epoch: int,
    row: Mapping[str, float],
    name: str = "",
) -> str:
    return (
        f"{name}epoch {epoch}/{settings.epochs}: loss {row['loss']:.3f}, "
        f"accuracy {percent(row['accuracy'])}, "
        f"{watched_split(_info(**settings.images))} accuracy "
        f"{percent(row['val_accuracy'])}"
    )


@cache
def _info(**images: Any) -> data.DatasetInfo:
    return data.open_dataset(**images).info


class _TrainingProgress(keras.callbacks.Callback):
    def __init__(self, bar: Progress, settings: training.RunSettings) -> None:
        super().__init__()
        self._supports_tf_logs = True  # those of a batch stay on the device
        self._bar, self._settings, self._console = bar, settings, console()
        self._task = bar.add_task("starts", total=None)
        self._before = 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Shows what is trained, and the bar; again in a second stage."""
        info, limit = _info(**self._settings.images), self._settings.limit
        images = min(limit or info.train_examples, info.train_examples)
        epochs, steps = self.params["epochs"], self.params["steps"]
        self._console.print(
            f"Training {self.model.count_params():,} parameters on {images:,} images "
            f"of {info.classes} classes; epochs: {epochs:,}, steps in each: {steps:,}.",
            soft_wrap=True,
        )

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._bar.update(self._task, visible=False)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        steps, epochs = self.params["steps"], self._settings.epochs
        self._before = epoch * steps
        shown = {"description": f"epoch {epoch + 1}/{epochs}", "total": epochs * steps}
        self._bar.update(self._task, completed=self._before, visible=True, **shown)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        self._bar.update(self._task, completed=self._before + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        self._console.print(_line(self._settings, epoch + 1, logs), soft_wrap=True)
