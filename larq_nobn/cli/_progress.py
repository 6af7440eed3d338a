"""Progress of trainings; imported by commands that train, since Keras is its base."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from .. import data, training
from .._keras import keras
from .._progress import step
from ._console import percent, say


def epoch_line(
    settings: training.RunSettings, epoch: int, row: Mapping[str, float]
) -> str:
    """Returns what is shown of a finished epoch."""
    split = "validation" if "val_accuracy" in row else "test"
    tested = row["val_accuracy" if split == "validation" else "test_accuracy"]
    return (
        f"epoch {epoch}/{settings.epochs}: loss {row['loss']:.3f}, "
        f"accuracy {percent(row['accuracy'])}, "
        f"{split} accuracy {percent(tested)}"
    )


@cache
def _info(**images: Any) -> data.DatasetInfo:
    return data.open_dataset(**images).info


class TrainingProgress(keras.callbacks.Callback):
    """Tells the steps of a training, and prints a line for each finished epoch."""

    def __init__(self, settings: training.RunSettings) -> None:
        super().__init__()
        self._supports_tf_logs = True  # those of a batch stay on the device
        self._settings, self._epoch = settings, 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Says what is trained; again in a second stage."""
        info, limit = _info(**self._settings.images), self._settings.limit
        images = min(limit or info.train_examples, info.train_examples)
        epochs, steps = self.params["epochs"], self.params["steps"]
        say(
            f"Training {self.model.count_params():,} parameters on {images:,} images "
            f"of {info.classes} classes; epochs: {epochs:,}, steps in each: {steps:,}."
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        steps, epochs = self.params["steps"], self._settings.epochs
        done = self._epoch * steps + batch + 1
        step(f"epoch {self._epoch + 1}/{epochs}", done, steps * epochs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        say(epoch_line(self._settings, epoch + 1, logs))
