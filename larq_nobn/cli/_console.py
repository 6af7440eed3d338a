"""What the commands print: tables and lines on stdout, progress on stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .._process import native_stderr_closed
from .._progress import watched
from .._tables import percent as percent
from ..config._run_files import as_json, write_json


def console(stderr: bool = False) -> Console:
    """Returns the console for results, or that for what is said beside JSON.

    It is wide enough for tables where there is no terminal.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return Console(stderr=stderr, width=width, highlight=False, markup=False)


@contextmanager
def progress(
    text: str, total: float | None = None
) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr that disappears at the end, and only on a terminal.

    Steps that the package tells are shown after `text`. Yields what advances the bar by
    a part of `total`.
    """
    terminal = console(stderr=True)
    bar = Progress(
        console=terminal,
        disable=not terminal.is_terminal,
        transient=True,
        # On a terminal lines have to go above the bar; in a file they belong there.
        redirect_stdout=sys.stdout.isatty(),
    )
    task = bar.add_task(text, total=total)

    def show(step: str, done: int, total: int | None) -> None:
        bar.tasks[0].total = total  # which `update` does not take None for
        bar.update(task, description=f"{text}: {step}", completed=done)

    with bar, watched(show):
        yield partial(bar.advance, task)


def say(text: str) -> None:
    console().print(text, soft_wrap=True)


def pairs(title: str, rows: Mapping[str, object]) -> Table:
    """A table of names and values but those that are None or empty."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    return table


def show(
    result: Mapping[str, object] | Sequence[object], report: str | None, *tables: Table
) -> None:
    """Writes a result as JSON if that is wanted, and prints it unless JSON is printed.

    The report is the file of the JSON; `-` is stdout and None is nowhere.
    """
    if report == "-":
        print(as_json(result))
        return
    if report is not None:
        write_json(Path(report), result)
    for table in tables:
        print_table(table)


def print_table(table: Table) -> None:
    """Prints a table; its title is one line, and breaks within no path."""
    lines, title, table.title = console(), table.title, None
    if title:
        lines.print(title, style="table.title", soft_wrap=True)
    lines.print(table)


def quiet() -> None:
    """Keeps what libraries log about themselves off the terminal."""
    # Read by Larq Compute Engine's own TensorFlow, which is loaded later.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Larq warns about kernels without clipping; scaled ones need none. matplotlib warns
    # where its own folder cannot be written.
    for library in ("larq", "tensorflow", "absl", "matplotlib"):
        logging.getLogger(library).setLevel(logging.ERROR)


@contextmanager
def initial_weights_shown() -> Iterator[None]:
    """Prints what a training takes from another network, when it does so."""
    logger = logging.getLogger("larq_nobn.start")
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # other libraries print what reaches the root
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


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
