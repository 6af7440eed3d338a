"""Ends commands with one sentence and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click
import tensorflow as tf

from .. import _signals
from .._errors import InternalError, UserError
from .._messages import first_line
from .._tables import sentence
from ._console import own_stderr
from ._package import training

# Keys of a context: whether the traceback is wanted, and the folder of a training.
TRACEBACK, RUN = f"{__name__}.traceback", f"{__name__}.run"
_ASK = " Ask its owner for the permission, or choose another path."
_NO_MEMORY = (
    "There is not enough memory, or room on the disk. Choose smaller batches, images "
    "or networks, a larger --memory where one is given, or a machine with more of it."
)


class CliError(click.ClickException):
    """Ends the command with one line on stderr: 2 is of bad input, 1 of a fault."""

    def __init__(self, message: str, exit_code: int = 2, prefix: str = "Error: "):
        super().__init__(sentence(message))
        self.exit_code = exit_code  # type: ignore[misc]  # of one error, not of all
        self._prefix = prefix

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the line, without the usage that click would put around it."""
        with suppress(OSError):  # as where the disk is full: the exit code is left
            click.echo(f"{self._prefix}{self.message}", err=True, file=file)


class Commands(click.Group):
    """A group whose commands, and whose own options, end with one sentence."""

    def __call__(self, *args: Any, **extra: Any) -> Any:
        """Runs as a program, with standard error to itself, and ends as one."""
        _signals.handle_signals(_signals.stop, *_signals.USUAL)
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed, as in a service
                setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Its encoding may lack the letters of a name.
                stream.reconfigure(errors="backslashreplace")
        if not sys.warnoptions:
            # What Pillow and NumPy warn of names lines of code. Processes that are
            # started read the variable.
            warnings.simplefilter("ignore")
            os.environ["PYTHONWARNINGS"] = "ignore"
        try:
            with own_stderr():
                return super().__call__(*args, **extra)
        except SystemExit as end:
            _signals.exit_code = end.code if isinstance(end.code, int) else None
            raise

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _one_sentence({}):
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_sentence(ctx.meta):
            return super().invoke(ctx)


@contextmanager
def _one_sentence(meta: dict[str, Any]) -> Iterator[None]:
    """Turns every error into a `CliError`: the one place that decides how."""
    try:
        with _signals.at_work():
            yield
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "larq-nobn"
        usage = sentence(error.format_message())
        stop = "" if usage.endswith((".", "?")) else "."
        raise CliError(f"{usage}{stop} See {command} --help.") from error
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise  # the last: who reads the output has seen enough
    except (KeyboardInterrupt, _signals.Terminated) as error:
        asked = isinstance(error, KeyboardInterrupt)
        number = signal.SIGINT if asked else signal.SIGTERM
        text = f"{_signals.STOPPED}{_how_to_resume(meta)}"
        raise CliError(text, 128 + number, prefix="") from error
    except Exception as error:
        if meta.get(TRACEBACK):
            traceback.print_exception(error)
        raise _explained(error) from error


def _explained(error: Exception) -> CliError:
    """What is said of an error, which a user can repair or the package causes."""
    while str(error).startswith("in user code:"):  # raised in a graph of TensorFlow
        if not isinstance(error.__context__, Exception):
            break
        error = error.__context__
    if isinstance(error, OSError) and error.strerror is not None:
        place = "" if error.filename is None else f": {error.filename}"
        ask = _ASK if isinstance(error, PermissionError) else ""
        return CliError(f"{error.strerror}{place}.{ask}")
    if isinstance(error, UserError | OSError):
        return CliError(str(error))
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return CliError(_NO_MEMORY)
    if isinstance(error, tf.errors.OpError):
        return CliError(
            f"TensorFlow cannot compute this: {first_line(error)}. The model is "
            "damaged, or does not fit the data."
        )
    if isinstance(error, InternalError):
        return CliError(f"{error} --traceback prints it.", exit_code=1)
    return CliError(
        f"{type(error).__name__}: {error}. This is a fault of larq_nobn, or of a layer "
        "of the given model. Please report it, with what the same command prints with "
        "--traceback.",
        exit_code=1,
    )


def _how_to_resume(meta: dict[str, Any]) -> str:
    """What a command that trains says when it is stopped."""
    if RUN not in meta:
        return ""
    output: Path | None = meta[RUN]
    if output is None:  # of several runs
        return " To resume, repeat the command."
    if training._run_folder.before_first_checkpoint(output):
        return " To start again, repeat the command."
    kept = training._checkpoints.position_kept(output)
    said = f" {output} is kept up to {kept}." if kept else ""
    return f"{said} To resume: larq-nobn train --resume {output}"
