"""Progress of trainings; imported by commands that train, since Keras is its base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

from rich.console import Console
from rich.progress import Progress

from .. import data, training
from .._keras import keras
from ..training._trainer import watched_split
from ._console import out, percent, progress


@contextmanager
def training_progress(
    settings: training.RunSettings,
) -> Iterator[keras.callbacks.Callback]:
    """A Keras callback that shows a bar, and a line for each finished epoch."""
    with progress() as bar:
        yield _TrainingProgress(bar, settings, out())


@contextmanager
def comparing_progress(
    runs: int, finished: int, console: Console
) -> Iterator[Callable[[str, training.RunSettings], keras.callbacks.Callback]]:
    """The same for several runs, with a bar over all of them, some finished before.

    Yields what gives the callback of the next run; its lines go to the console.
    """
    with progress() as bar:
        task = bar.add_task("runs", total=runs, completed=finished)
        watched: list[_TrainingProgress] = []

        def count() -> None:
            over = sum(each.is_over for each in watched)
            bar.update(task, completed=finished + over)

        def watch(name: str, settings: training.RunSettings) -> _TrainingProgress:
            watched.append(
                _TrainingProgress(bar, settings, console, f"{name}, ", count)
            )
            return watched[-1]

        yield watch


class _TrainingProgress(keras.callbacks.Callback):
    def __init__(
        self,
        bar: Progress,
        settings: training.RunSettings,
        console: Console,
        name: str = "",
        count: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._supports_tf_logs = True  # those of a batch stay on the device
        self._bar = bar
        self._settings, self._epochs = settings, settings.epochs
        self._console = console
        self._name, self._count = name, count
        self._task = bar.add_task(f"{name}starts", total=None)
        self.is_over = False

    @cached_property
    def _split(self) -> str:
        return watched_split(data.open_dataset(**self._settings.images).info)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._show(True)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._show(False)

    def _show(self, visible: bool) -> None:
        """A second stage shows the bar again."""
        self.is_over = not visible
        self._bar.update(self._task, visible=visible)
        self._count()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.reset(
            self._task,
            description=f"{self._name}epoch {epoch + 1}/{self._epochs}",
            total=self.params["steps"],
        )

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        self._bar.update(self._task, completed=batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        self._console.print(
            f"{self._name}epoch {epoch + 1}/{self._epochs}: loss {logs['loss']:.3f}, "
            f"accuracy {percent(logs['accuracy'])}, "
            f"{self._split} accuracy {percent(logs['val_accuracy'])}",
            soft_wrap=True,
        )
