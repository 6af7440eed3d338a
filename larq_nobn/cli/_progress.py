"""Progress of trainings; imported by commands that train, since Keras is its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import Progress

from .. import data, training
from .._keras import keras
from ..training._choice import is_over
from ..training._trainer import watched_split
from . import _few_images
from ._console import console, percent, progress

# Steps of an epoch, after its first, that tell how long the run takes.
_TIMED = 10


@contextmanager
def training_progress(
    settings: training.RunSettings,
) -> Iterator[keras.callbacks.Callback]:
    """A Keras callback that shows a bar, and a line for each finished epoch."""
    with progress() as bar:
        yield _TrainingProgress(bar, settings, console())


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
    """Returns what is shown of a finished epoch."""
    return (
        f"{name}epoch {epoch}/{settings.epochs}: loss {row['loss']:.3f}, "
        f"accuracy {percent(row['accuracy'])}, "
        f"{watched_split(_info(**settings.images))} accuracy "
        f"{percent(row['val_accuracy'])}"
    )


@cache
def _info(**images: Any) -> data.DatasetInfo:
    return data.open_dataset(**images).info


def run_time(seconds: float) -> str:
    """Returns the line that says how long a run takes, rounded as an estimate is."""
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"The run takes about {seconds / size:.0f} {unit}."
    return f"The run takes about {max(10, 10 * round(seconds / 10))} seconds."


class _TrainingProgress(keras.callbacks.Callback):
    def __init__(
        self, bar: Progress, settings: training.RunSettings, console: Console
    ) -> None:
        super().__init__()
        self._supports_tf_logs = True  # those of a batch stay on the device
        self._bar, self._settings, self._console = bar, settings, console
        self._task = bar.add_task("starts", total=None)
        self._epoch, self._started = 0, 0.0
        self._timed = self._warned = False

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
        self._bar.update(self._task, visible=True)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Hides the bar."""
        self._bar.update(self._task, visible=False)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the bar of the epoch."""
        self._epoch = epoch
        self._bar.reset(
            self._task,
            description=f"epoch {epoch + 1}/{self._settings.epochs}",
            total=self.params["steps"],
        )

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Advances the bar; once, shows how long the run takes."""
        self._bar.update(self._task, completed=batch + 1)
        if batch == 0:  # the first of all compiles
            self._started = monotonic()
        elif not self._timed and batch == min(_TIMED, self.params["steps"] - 1):
            self._timed = True
            left = (self.params["epochs"] - self._epoch) * self.params["steps"]
            seconds = (monotonic() - self._started) * left / batch
            self._console.print(run_time(seconds))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Prints the line of the epoch."""
        assert logs is not None
        self._console.print(_line(self._settings, epoch + 1, logs), soft_wrap=True)
        diverged = _few_images.divergence(
            logs["loss"], _info(**self._settings.images).classes, self._settings
        )
        if diverged and not self._warned:
            self._warned = True
            self._console.print(diverged, soft_wrap=True)
