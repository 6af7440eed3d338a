"""Progress of trainings; imported by commands that train, since Keras is its base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from rich.progress import Progress

from .. import data, training
from .._keras import keras
from ..training._trainer import watched_split
from ._console import console, percent, progress


@contextmanager
def training_progress(
    settings: training.RunSettings,
) -> Iterator[keras.callbacks.Callback]:
    """A Keras callback that shows a bar, and a line for each finished epoch."""
    with progress() as bar:
        yield _TrainingProgress(bar, settings)


def epoch_line(
    settings: training.RunSettings, epoch: int, row: Mapping[str, float]
) -> str:
    """Returns what is shown of a finished epoch."""
    split = watched_split(_info(**settings.images))
    return (
        f"epoch {epoch}/{settings.epochs}: loss {row['loss']:.3f}, "
        f"accuracy {percent(row['accuracy'])}, "
        f"{split} accuracy {percent(row['val_accuracy'])}"
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
        line = epoch_line(self._settings, epoch + 1, logs)
        self._console.print(line, soft_wrap=True)
