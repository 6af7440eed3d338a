"""What the commands print: tables and lines on stdout, progress on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from .. import training
from .._keras import keras, native_stderr_closed
from .._tables import printable
from ..training.run import watched_split


def out() -> Console:
    """The console for results; wide enough for tables where there is no terminal."""
    return _console(stderr=False)


def beside() -> Console:
    """The same on stderr, for what is said while stdout is for JSON."""
    return _console(stderr=True)


def progress() -> Progress:
    """A progress bar on stderr that leaves nothing behind, and only on a terminal."""
    return _live(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )


def _live(*columns: ProgressColumn) -> Progress:
    console = _console(stderr=True)
    return Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        # On a terminal lines have to go above the bar; in a file they belong there.
        redirect_stdout=sys.stdout.isatty(),
    )


def say(text: str) -> None:
    """Prints one line of text."""
    out().print(text, soft_wrap=True)


def percent(share: float) -> str:
    """Returns `"97.5 %"` for 0.975."""
    return f"{100 * share:.1f} %"


def pairs(title: str, rows: Mapping[str, object]) -> Table:
    """Returns a table with a name and a value in each row."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def emit_json(
    content: Mapping[str, object] | Sequence[object], target: str | None
) -> None:
    """Writes `content` to the file `target`; `-` is stdout and None is nowhere."""
    if target == "-":
        print(json.dumps(content, indent=2))
    elif target is not None:
        training.write_json(Path(target), content)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Shows, on a terminal, that something of unknown length is going on."""
    with _live(SpinnerColumn(), TextColumn("{task.description}")) as bar:
        bar.add_task(text, total=None)
        yield


class _Printable(logging.Filter):
    """Lets no name in a warning be one that a terminal would obey."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


_PRINTABLE = _Printable()


def quiet() -> None:
    """Keeps what libraries log about themselves off the terminal."""
    # Read by Larq Compute Engine's own TensorFlow, which is loaded later.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Larq warns about kernels without clipping; scaled ones need none.
    for library in ("larq", "tensorflow", "absl"):
        logging.getLogger(library).setLevel(logging.ERROR)
    logging.getLogger("larq_nobn").addFilter(_PRINTABLE)


@contextmanager
def beginnings_shown() -> Iterator[None]:
    """Prints what a training takes from another network, when it does so."""
    logger, handler = logging.getLogger("larq_nobn.start"), _Said()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextmanager
def own_stderr() -> Iterator[None]:
    """Leaves standard error to Python: native code's messages heed no log level."""
    with (
        os.fdopen(os.dup(2), "w", 1, errors="backslashreplace") as stream,
        redirect_stderr(stream),
        native_stderr_closed(),
    ):
        yield


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
    """The same for several runs, with a bar over all of them.

    Arguments:
        runs: How many runs there are.
        finished: How many of them were trained before.
        console: Where the lines go.

    Yields:
        What gives the callback of the next run.
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
        split = watched_split(self._settings)
        self._console.print(
            f"{self._name}epoch {epoch + 1}/{self._epochs}: loss {logs['loss']:.3f}, "
            f"accuracy {percent(logs['accuracy'])}, "
            f"{split} accuracy {percent(logs['val_accuracy'])}",
            soft_wrap=True,
        )


class _Console(Console):
    """Shows names of classes, files and layers that a terminal would obey."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return _Console(stderr=stderr, width=width, highlight=False, markup=False)
