"""Progress of trainings; only commands that train import it, because it needs Keras."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from .. import training
from .._keras import keras
from .._progress import step
from ._console import percent, say

# The first step, or epoch, that is timed, and the number of timed steps.
_FIRST_TIMED, _TIMED = 2, 10


def epoch_line(
    settings: training.RunSettings, epoch: int, row: Mapping[str, float]
) -> str:
    validated = "val_accuracy" in row
    tested = row["val_accuracy" if validated else "test_accuracy"]
    return (
        f"epoch {epoch}/{settings.epochs}: loss {row['loss']:.3f}, "
        f"accuracy {percent(row['accuracy'])}, "
        f"{'validation' if validated else 'test'} accuracy {percent(tested)}"
    )


class TrainingProgress(keras.callbacks.Callback):
    """Advances the progress bar, and prints a line after each epoch."""

    def __init__(self, settings: training.RunSettings) -> None:
        super().__init__()
        self._steps, self._epochs, self._since, self._began = 0, 0, 0.0, 0.0
        self._supports_tf_logs = True  # logs of a batch stay on the device
        self._settings, self._epoch, self._told = settings, 0, False

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch, self._began = epoch, perf_counter()
        self._epochs += 1

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        steps, epochs = self.params["steps"], self._settings.epochs
        done = self._epoch * steps + batch + 1
        self._steps += 1
        if self._steps == _FIRST_TIMED:  # the first step takes longer
            self._since = perf_counter()
        if self._steps == _FIRST_TIMED + _TIMED:
            seconds = (perf_counter() - self._since) / _TIMED
            self._tell("step", seconds, steps * epochs - done)
        step(f"epoch {self._epoch + 1}/{epochs}", done, steps * epochs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        say(epoch_line(self._settings, epoch + 1, logs))
        if self._epochs == _FIRST_TIMED:  # few steps are left to time, or were timed
            seconds = perf_counter() - self._began
            self._tell("epoch", seconds, self._settings.epochs - epoch - 1)

    def _tell(self, what: str, seconds: float, left: int) -> None:
        """Prints how long the training takes, once, if that is over a minute."""
        minutes = seconds * left / 60
        if minutes > 1 and not self._told:
            say(
                f"One {what} takes {seconds:.2f} s, the training {minutes:.0f} minutes."
            )
        self._told = True
