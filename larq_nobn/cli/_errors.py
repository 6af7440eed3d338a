"""Turns what a user can cause into one sentence and an exit code."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click
import tensorflow as tf

from .. import _process
from .._tables import sentence
from ._console import own_stderr
from ._package import data, training

# What a command calls the model file that it opened; and what runs models.
_OPENED = f"{__name__}.opened"
_RUNNING = {"tensorflow", "tf_keras", "keras", "larq"}
# What the package raises for what it is given.
_USUAL = (ValueError, TypeError, ImportError, ArithmeticError)
_NO_SPACE = "No space left on device. Free some and try again."
# A disk that is full or fails; other errors are repaired before anything is resumed.
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_ASK = " Ask its owner for the permission, or choose another path."
# What asks for less memory: options of any command, and those of networks that are
# made, which change nothing about the network in a file.
_SMALLER = {
    "--batch-size": "smaller batches",
    "--batch-sizes": "smaller batches",
    "--accumulate": "more parts of a batch",
}
_OF_MADE = {"--image-size": "smaller images", "--width": "fewer channels"}


def say_of(*files: Any) -> None:
    """Lets messages name the model files that a command opens; None and "train" none.

    What cannot be run, or takes too much memory, is then said of them.
    """
    context = click.get_current_context(silent=True)
    named = [str(file) for file in files if file not in (None, "train")]
    if context is not None and named:
        context.meta[_OPENED] = " or ".join(named)
        if tf.debugging.is_traceback_filtering_enabled():
            # Without their own lines errors of Keras look like those of this package.
            tf.debugging.disable_traceback_filtering()
            context.call_on_close(tf.debugging.enable_traceback_filtering)


class CliError(click.ClickException):
    """Ends the command with one line on stderr."""

    exit_code = 2
    prefix = "Error: "
    hint = ""

    def __init__(self, message: str) -> None:
        super().__init__(sentence(message))

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the line, without the usage that click would put around it."""
        text = f"{self.prefix}{self.message}{self.hint}"
        with suppress(OSError):  # as where the disk is full: the exit code is left
            click.echo(text, err=True, file=file)


class Stopped(CliError):
    """The same for a command that the user stopped."""

    exit_code = 128 + signal.SIGINT
    prefix = ""


class Terminated(Stopped):
    """The same for a command that another program stopped."""

    exit_code = 128 + signal.SIGTERM


def open_streams() -> None:
    """Lets anything be written to the standard streams.

    The shell may have closed one, as by >&-, and may have chosen an encoding without
    the letters of a name.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # A file that is opened next would get the number, and what native code
            # writes to it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for good
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Commands(click.Group):
    """A group whose commands, and whose own options, answer bad input in a sentence."""

    def __call__(self, *args: Any, **extra: Any) -> Any:
        """Runs as a program, with standard error to itself, and ends as one."""
        usual = (signal.SIG_DFL, signal.default_int_handler)
        _process.handle_signals(_process.stop, *usual)
        open_streams()
        if not sys.warnoptions:
            # What Pillow and NumPy warn of names lines of code. Processes that are
            # started read the variable.
            warnings.simplefilter("ignore")
            os.environ["PYTHONWARNINGS"] = "ignore"
        try:
            with own_stderr():
                return super().__call__(*args, **extra)
        except SystemExit as end:
            _process.exit_code = end.code if isinstance(end.code, int) else None
            raise

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Reads the group's own options."""
        with _one_sentence():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Reads a command's options and runs it."""
        with _one_sentence():
            return super().invoke(ctx)


@contextmanager
def resumable(output: Path | None = None) -> Iterator[None]:
    """Adds, if training is stopped or its disk is full, how to continue.

    Arguments:
        output: The folder of the run; None for several, which the same command resumes.
    """
    try:
        with _one_sentence(), data.reading():
            yield
    except CliError as error:
        if output is None:
            error.hint = " To resume, repeat the command." * isinstance(error, Stopped)
            raise
        kept, cause = training.folder.position_kept(output), error.__cause__
        short = isinstance(cause, tf.errors.ResourceExhaustedError) or (
            isinstance(cause, OSError)
            and any(os.strerror(each) in error.message for each in _OF_DISK)
        )
        if kept and (short or isinstance(error, Stopped)):
            error.hint = (
                f" {output} is kept up to {kept}. To resume, repeat the command with "
                "--resume."
            )
        raise


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Errors of a command line come first: they are answered without TensorFlow."""
    try:
        with _stopping():
            yield
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "larq-nobn"
        usage = sentence(error.format_message())
        stop = "" if usage.endswith((".", "?")) else "."
        raise CliError(f"{usage}{stop} See {command} --help.") from error
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except KeyboardInterrupt as error:
        raise Stopped(_process.STOPPED) from error
    except SystemExit as error:
        if not isinstance(error, _process.Terminated):
            raise
        raise Terminated(_process.STOPPED) from error
    except BrokenPipeError:
        raise  # who reads the output has seen enough: click ends without a word
    except OSError as error:
        said, place = error.strerror, error.filename
        text = str(error) if said is None else f"{said}."
        if said is not None and place is not None:
            text = f"{said}: {place}.{_ASK * (error.errno in _FORBIDDEN)}"
        if isinstance(error, FileNotFoundError) and _is_nowhere():
            text = "The current folder has been removed. Change to one that is there."
        raise CliError(text) from error
    except MemoryError as error:
        raise CliError(_no_memory()) from error
    except Exception as wrapped:
        inner = _process.unwrapped(wrapped)
        module, raised = _process.origin_of(inner)
        if isinstance(inner, _USUAL) and module == "larq_nobn" and raised:
            raise CliError(str(inner)) from inner
        if isinstance(inner, tf.errors.ResourceExhaustedError):
            full = "No space left" in str(inner)
            raise CliError(_NO_SPACE if full else _no_memory()) from inner
        file = _opened()
        if file is None or module not in _RUNNING:
            raise  # a bug
        raise CliError(
            f"{file} cannot be run as a model: {training.folder.first_line(inner)}. "
            "It is damaged, or its layers do not fit together."
        ) from inner


def _is_nowhere() -> bool:
    """Whether the folder that relative paths start from is gone."""
    try:
        os.getcwd()
    except OSError:
        return True
    return False


@contextmanager
def _stopping() -> Iterator[None]:
    """Raises what a signal did, in place of what native code has made of it."""
    at_work = _process.handle_signals(_process.stop, _process.stop_at_once)
    try:
        yield
    except Exception as error:
        if _process.stopped_by is None or isinstance(error, CliError):
            raise
        _process.raise_stopped()
    finally:
        if at_work:
            _process.handle_signals(_process.stop_at_once, _process.stop)


def _opened() -> Any:
    """What the command calls the model file that it opened; None for none."""
    context = click.get_current_context(silent=True)
    return context.meta.get(_OPENED) if context else None


def _no_memory() -> str:
    """Says so, and what this command can do about it."""
    file, context = _opened(), click.get_current_context(silent=True)
    command = context.command if context else None
    if context and isinstance(command, click.Group) and context.invoked_subcommand:
        command = command.get_command(context, context.invoked_subcommand)
    options = {**_SMALLER, **({} if file else _OF_MADE)}
    given = [name for each in (command.params if command else []) for name in each.opts]
    advice = [f"{what} ({name})" for name, what in options.items() if name in given]
    advice += ["a smaller network"] if file else []
    advice += ["a machine with more of it"]
    *first, last = advice
    choice = f"{', '.join(first)} or {last}" if first else last
    running = f" to run {file}" if file else ""
    return f"There is not enough memory{running}. Take {choice}."
