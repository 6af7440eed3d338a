"""What the commands print: tables and lines on stdout, progress on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
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

from .._process import native_stderr_closed
from .._progress import watched
from .._run_files import write_json
from .._tables import printable, sentence


def out() -> Console:
    """The console for results; wide enough for tables where there is no terminal."""
    return _console(stderr=False)


def beside() -> Console:
    """The same on stderr, for what is said while stdout is for JSON."""
    return _console(stderr=True)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on stderr that disappears at the end, and only on a terminal.

    Steps of what is done inside have a bar of their own, until one is complete.
    """
    bar = _live(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    task = bar.add_task("", total=None, visible=False)

    def show(text: str, done: int, total: int | None) -> None:
        goes_on = total is None or done < total
        bar.update(task, description=text, completed=done, total=total, visible=goes_on)

    with bar, watched(show):
        yield bar


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


def show(
    result: Mapping[str, object] | Sequence[object], report: str | None, *tables: Table
) -> None:
    """Writes a result as JSON if that is wanted, and prints it unless JSON is printed.

    The report is the file of the JSON; `-` is stdout and None is nowhere.
    """
    if report == "-":
        print(json.dumps(result, indent=2))
        return
    if report is not None:
        write_json(Path(report), result)
    for table in tables:
        out().print(table)


@contextmanager
def working(text: str) -> Iterator[Progress]:
    """Shows, on a terminal, what is going on, and how much of each step is done."""
    with _live(SpinnerColumn(), TextColumn("{task.description}")) as bar:
        task = bar.add_task(text, total=None)

        def tell(step: str, done: int, total: int | None) -> None:
            counted = f" {done:,}" if done else ""
            if total is not None:
                counted = f" {done:,} of {total:,}"
            bar.update(task, description=f"{text}: {step}{counted}")

        with watched(tell):
            yield bar


class _Printable(logging.Filter):
    """Lets no name in a warning be one that a terminal would obey."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = sentence(record.getMessage()), ()
        return True


_PRINTABLE = _Printable()


def quiet() -> None:
    """Keeps what libraries log about themselves off the terminal."""
    # Read by Larq Compute Engine's own TensorFlow, which is loaded later.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Larq warns about kernels without clipping; scaled ones need none. matplotlib warns
    # where its own folder cannot be written.
    for library in ("larq", "tensorflow", "absl", "matplotlib"):
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
    """Leaves standard error to Python: native code's messages ignore log levels."""
    stream = os.fdopen(os.dup(2), "w", 1, errors="backslashreplace")
    try:
        with redirect_stderr(stream), native_stderr_closed():
            yield
    finally:
        with suppress(OSError):  # of what could not be written
            stream.close()


class _Console(Console):
    """Shows names of classes, files and layers that a terminal would obey."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return _Console(stderr=stderr, width=width, highlight=False, markup=False)
