"""Output of commands: tables and lines on stdout, progress on stderr."""

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
    """Returns the console for results, or for messages if stdout is used for JSON.

    Without a terminal, it is wide enough for tables.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return Console(stderr=stderr, width=width, highlight=False, markup=False)


@contextmanager
def progress(
    text: str, total: float | None = None
) -> Iterator[Callable[[float], None]]:
    """Shows a progress bar on stderr, if that is a terminal, until the block ends.

    Yields a function that advances the bar by a number of `total`. Steps of the package
    appear after `text`.
    """
    terminal = console(stderr=True)
    bar = Progress(
        console=terminal,
        disable=not terminal.is_terminal,
        transient=True,
        # On a terminal, lines must go above the bar; in a file, they must stay.
        redirect_stdout=sys.stdout.isatty(),
    )
    task = bar.add_task(text, total=total)

    def show(step: str, done: int, total: int | None) -> None:
        bar.tasks[0].total = total  # `update` would ignore None
        bar.update(task, description=f"{text}: {step}", completed=done)

    with bar, watched(show):
        yield partial(bar.advance, task)


def say(text: str, stderr: bool = False) -> None:
    console(stderr).print(text, soft_wrap=True)


def pairs(title: str, rows: Mapping[str, object]) -> Table:
    """Returns a table of names and values, without values that are None or empty."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    return table


def show(
    result: Mapping[str, object] | Sequence[object],
    json_path: str | None,
    *tables: Table,
) -> None:
    """Prints tables, and writes the result as JSON to a path if one is given.

    With the path `-`, the JSON is printed instead of the tables.
    """
    if json_path == "-":
        print(as_json(result))
        return
    if json_path is not None:
        write_json(Path(json_path), result)
    for table in tables:
        print_table(table)


def print_table(table: Table) -> None:
    """Prints a table; its title stays on one line, so that no path is broken."""
    lines, title, table.title = console(), table.title, None
    if title:
        lines.print(title, style="table.title", soft_wrap=True)
    lines.print(table)


def quiet() -> None:
    """Mutes messages of libraries about themselves."""
    # Larq Compute Engine's own TensorFlow, which is loaded later, reads the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Larq warns of kernels without clipping, though scaled ones need none. matplotlib
    # warns if it cannot write to its own folder.
    for library in ("larq", "tensorflow", "absl", "matplotlib"):
        logging.getLogger(library).setLevel(logging.ERROR)


@contextmanager
def initial_weights_shown() -> Iterator[None]:
    """Prints which weights a training takes from another network."""
    logger = logging.getLogger("larq_nobn.start")
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # other libraries may print messages of the root logger
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


@contextmanager
def own_stderr() -> Iterator[None]:
    """Keeps native code off standard error, because it ignores log levels."""
    stream = os.fdopen(os.dup(2), "w", 1, errors="backslashreplace")
    try:
        with redirect_stderr(stream), native_stderr_closed():
            yield
    finally:
        with suppress(OSError):  # the last lines could not be written
            stream.close()
