"""Ctrl-C and SIGTERM, and how the command ends."""

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


def terminate(number: int, frame: object) -> NoReturn:
    """Handles SIGTERM where something is to be taken away."""
    raise Terminated


# What a program starts with.
USUAL = (signal.SIG_DFL, signal.default_int_handler)
STOPPED = "Stopped; nothing half-written is left."
# A key that is pressed twice, or a signal that is passed on by several, is one.
_SECONDS_OF_ONE = 2.0
# What has stopped the command, and when: native code may turn the error into another.
stopped_by: int | None = None
_stopped_at = -_SECONDS_OF_ONE
# How the command has ended; None until then.
exit_code: int | None = None


def stop(number: int, frame: object) -> None:
    """Handles signals in a command, which takes away what it has written by half."""
    global stopped_by, _stopped_at
    now = time.monotonic()
    if now - _stopped_at < _SECONDS_OF_ONE:
        return
    stopped_by, _stopped_at = number, now
    raise_stopped()


def raise_stopped() -> NoReturn:
    """Raises the error of the signal that has stopped the command."""
    raise Terminated if stopped_by == signal.SIGTERM else KeyboardInterrupt


def stop_at_once(number: int, frame: object) -> None:
    """Handles signals before a command is at work, when nothing is to be taken away.

    After it they change no more how it ends.
    """
    if stopped_by is not None or exit_code is not None:
        return
    with suppress(Exception):  # it may be closed, or be written to at this moment
        print(STOPPED, file=sys.stderr, flush=True)
    os._exit(128 + number)


def handle_signals(handler: Any, *instead_of: Any) -> bool:
    """Sets what Ctrl-C and SIGTERM do in place of one of these; whether it was one."""
    replaced = False
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in instead_of:
            with suppress(ValueError):  # of a program that calls this in a thread
                signal.signal(number, handler)
                replaced = True
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
    changed = handle_signals(stop, stop_at_once)
    try:
        yield
    except Exception:
        if stopped_by is None:
            raise
        raise_stopped()
    finally:
        if changed:
            handle_signals(stop_at_once, stop)
