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

# Keys of click's context: the flag for the traceback, and the run folder of a training.
TRACEBACK, RUN = f"{__name__}.traceback", f"{__name__}.run"
_ASK = " Ask its owner for permission, or choose another path."
_NO_MEMORY = (
    "There is not enough memory or disk space. Choose smaller batches, images or "
    "networks, a larger --memory if you have set it, or a larger machine."
)


class CliError(click.ClickException):
    """Ends a command with one line; exit code 2: wrong input, 1: a bug in larq_nobn."""

    def __init__(self, message: str, exit_code: int = 2, prefix: str = "Error: "):
        super().__init__(sentence(message))
        self.exit_code = exit_code  # type: ignore[misc]  # click has one per class
        self._prefix = prefix

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the line, without the usage that click would add."""
        with suppress(OSError):  # a full disk, for example: the exit code remains
            click.echo(f"{self._prefix}{self.message}", err=True, file=file)


class Commands(click.Group):
    """A group that ends with one sentence at an error of a command or option."""

    def __call__(self, *args: Any, **extra: Any) -> Any:
        """Runs as a program: handles signals, and keeps standard error to Python."""
        _signals.handle_signals(_signals.stop, *_signals.USUAL)
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed, for example in a service
                setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A name may contain letters that the encoding lacks.
                stream.reconfigure(errors="backslashreplace")
        if not sys.warnoptions:
            # Warnings of Pillow and NumPy name lines of code, which help no user.
            # Child processes read the variable.
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
    """Turns every error into a `CliError`; no other place does."""
    try:
        with _signals.at_work():
            yield
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "larq-nobn"
        usage = sentence(error.format_message())
        stop = "" if usage.endswith((".", "?")) else "."
        raise CliError(f"{usage}{stop} See {command} --help.") from error
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise  # a BrokenPipeError: the reader of the output has stopped
    except (KeyboardInterrupt, _signals.Terminated) as error:
        ctrl_c = isinstance(error, KeyboardInterrupt)
        number = signal.SIGINT if ctrl_c else signal.SIGTERM
        text = f"{_signals.STOPPED}{_how_to_resume(meta)}"
        raise CliError(text, 128 + number, prefix="") from error
    except Exception as error:
        if meta.get(TRACEBACK):
            traceback.print_exception(error)
        raise _explained(error) from error


def _explained(error: Exception) -> CliError:
    """Returns the sentence for an error of the user or of the package."""
    while str(error).startswith("in user code:"):  # raised within a TensorFlow graph
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
        return CliError(f"{error} --traceback prints the traceback.", exit_code=1)
    return CliError(
        f"{type(error).__name__}: {error}. This is a bug in larq_nobn, or in a layer "
        "of the given model. Please report it, with the output of the same command and "
        "--traceback.",
        exit_code=1,
    )


def _how_to_resume(meta: dict[str, Any]) -> str:
    if RUN not in meta:
        return ""
    output: Path | None = meta[RUN]
    if output is None:  # the command has several runs
        return " To resume, repeat the command."
    if training._run_folder.before_first_checkpoint(output):
        return " To start again, repeat the command."
    last = training._checkpoints.newest_position(output)
    said = f" {output} is saved up to {last}." if last else ""
    return f"{said} To resume: larq-nobn train --resume {output}"
