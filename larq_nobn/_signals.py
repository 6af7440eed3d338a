"""How Ctrl-C and SIGTERM end commands and trainings."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn


class Terminated(SystemExit):
    """SIGTERM arrived during a training or a command.

    If nothing catches it, the process ends with exit code 143 and without a message,
    as processes without a handler do.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


# The default handlers of a program.
USUAL = (signal.SIG_DFL, signal.default_int_handler)
STOPPED = "Stopped; nothing half-written is left."
# Signals within this time count as one: a key that is pressed twice, or a signal that
# several processes pass on.
_SECONDS_OF_ONE = 2.0
# The signal that has stopped the command or the training. It is stored because native
# code may replace the error, and Python ignores errors while it frees an object.
stopped_by: int | None = None
# Whether a training is inside a step; it raises the error after it, with a checkpoint.
in_step = False
_stopped_at = -_SECONDS_OF_ONE
# The exit code of the command; None until it has ended.
exit_code: int | None = None


def stop(number: int, frame: object) -> None:
    """Handles signals by raising an error, so that temporary files are removed."""
    global stopped_by, _stopped_at
    now = time.monotonic()
    if now - _stopped_at < _SECONDS_OF_ONE:
        return
    again = stopped_by is not None
    stopped_by, _stopped_at = number, now
    if again or not in_step:
        raise_stopped()


def raise_stopped() -> NoReturn:
    raise Terminated if stopped_by == signal.SIGTERM else KeyboardInterrupt


def stop_at_once(number: int, frame: object) -> None:
    """Handles signals before a command starts its work, when nothing needs cleaning up.

    It ignores signals once the command has ended or is stopped.
    """
    if stopped_by is not None or exit_code is not None:
        return
    with suppress(OSError):  # it may be closed; not sys.stderr, which may be locked
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + number)


def handle_signals(handler: Any, *instead_of: Any) -> dict[int, Any]:
    """Sets the handler of Ctrl-C and SIGTERM if it is one of `instead_of`.

    Returns the replaced handlers.
    """
    replaced: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in instead_of:
            with suppress(ValueError):  # outside of the main thread
                replaced[number] = signal.signal(number, handler)
    return replaced


def leave() -> None:
    """Ends the command before Python's own shutdown.

    During that shutdown, running threads of native code have crashed stopped commands,
    and the garbage collection of TensorFlow takes most of a second.
    """
    if exit_code is None:  # after a bug, Python shows the traceback
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # full, or closed
            stream.flush()
    os._exit(exit_code)


@contextmanager
def at_work() -> Iterator[None]:
    """Raises the error of a signal, even if native code has replaced it by another."""
    replaced = handle_signals(stop, stop_at_once)
    try:
        yield
    except Exception:
        if stopped_by is not None:
            raise_stopped()
        raise
    finally:
        for number, before in replaced.items():
            signal.signal(number, before)


@contextmanager
def stoppable() -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM end a training by an exception.

    SIGTERM raises `Terminated`, Ctrl-C `KeyboardInterrupt` as usual. Nothing changes
    outside of the main thread, which alone receives signals, or if the program has its
    own handlers. If the exception is lost, `stopped_by` contains the signal.
    """
    replaced = handle_signals(stop, *USUAL)
    if replaced:
        _forget()
    try:
        yield
    finally:
        for number, before in replaced.items():
            signal.signal(number, before)
        if replaced:
            _forget()


def _forget() -> None:
    """Forgets earlier signals."""
    global stopped_by, _stopped_at, in_step
    stopped_by, _stopped_at, in_step = None, -_SECONDS_OF_ONE, False
