"""Ctrl-C and SIGTERM: how commands and trainings end by them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn


class Terminated(SystemExit):
    """SIGTERM has come while a network was trained, or a command was at work.

    Where nothing catches it the process ends, with exit code 143 and without a message,
    as others do that obey the signal.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


# What a program starts with.
USUAL = (signal.SIG_DFL, signal.default_int_handler)
STOPPED = "Stopped; nothing half-written is left."
# A key that is pressed twice, or a signal that is passed on by several, is one.
_SECONDS_OF_ONE = 2.0
# What has stopped the command or the training, and when: native code may turn the error
# into another, and Python ignores what is raised while it frees an object.
stopped_by: int | None = None
# Whether a training takes a step, after which it raises the error, with a checkpoint.
in_step = False
_stopped_at = -_SECONDS_OF_ONE
# How the command has ended; None until then.
exit_code: int | None = None


def stop(number: int, frame: object) -> None:
    """Handles signals where something is to be taken away: raises an error."""
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
    """Handles signals before a command is at work, when nothing is to be taken away.

    After it they change no more how it ends.
    """
    if stopped_by is not None or exit_code is not None:
        return
    with suppress(OSError):  # it may be closed; the stream may be in use, this is not
        os.write(2, f"{STOPPED}\n".encode())
    os._exit(128 + number)


def handle_signals(handler: Any, *instead_of: Any) -> dict[int, Any]:
    """Sets what Ctrl-C and SIGTERM do in place of one of these; returns those."""
    replaced: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in instead_of:
            with suppress(ValueError):  # of a program that calls this in a thread
                replaced[number] = signal.signal(number, handler)
    return replaced


def leave() -> None:
    """Ends the command where Python would start to take its modules down.

    Threads of native code may still run then, which has crashed stopped commands; and
    looking for circles in all of TensorFlow takes most of a second.
    """
    if exit_code is None:  # an error that is a bug
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # full, or closed
            stream.flush()
    os._exit(exit_code)


@contextmanager
def at_work() -> Iterator[None]:
    """Raises what a signal did, in place of what native code has made of it."""
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

    SIGTERM raises `Terminated`, Ctrl-C `KeyboardInterrupt` as usual. Outside of the
    main thread, where Python hands out no signals, and where the program has handlers
    of its own, nothing is changed. What gets lost is in `stopped_by`.
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
    """Lets the next signal be a new one."""
    global stopped_by, _stopped_at, in_step
    stopped_by, _stopped_at, in_step = None, -_SECONDS_OF_ONE, False
