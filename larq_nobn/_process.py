"""How this process ends, and whether it is the command `larq-nobn`, which imports late.

`import larq_nobn` imports TensorFlow and registers every class, so that Keras can open
files with them. The command does so when it first needs a network: reading a command
line, `--help` and completion take a tenth of that time.
"""

from __future__ import annotations

import atexit
import dis
import importlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

_PROGRAM, _PACKAGE = "larq-nobn", "larq_nobn"


def _is_command() -> bool:
    """Whether Python was started as `larq-nobn` or `python -m larq_nobn`.

    Processes that the command starts have its `sys.argv`, but no such command line.
    """
    script = next(iter(sys.argv), "")
    if script == "-m":  # which becomes a path once the module is found
        at = sys.orig_argv.index("-m") + 1 if "-m" in sys.orig_argv else 0
        return sys.orig_argv[at : at + 1] == [_PACKAGE]
    return script in sys.orig_argv and Path(script).stem == _PROGRAM


class _Late(ModuleType):
    """Stands for a module until something of it is needed."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _import_late(name: str) -> None:
    """Lets `import name` import it when its first attribute is needed."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is not None:
        sys.modules[name] = _Late(name)
        sys.modules[name].__spec__ = spec


# Whether the package has left out what needs TensorFlow.
late = _is_command()
if late:
    _import_late("tensorflow")


def import_all() -> None:
    """Imports what the command has left out so far, as `import larq_nobn` does."""
    global late
    if late:
        late = False
        importlib.reload(sys.modules[_PACKAGE])


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


def unwrapped(error: Exception) -> Exception:
    """The error that was raised in a graph; TensorFlow lists lines of code for it."""
    while str(error).startswith("in user code:"):
        if not isinstance(error.__context__, Exception):
            break
        error = error.__context__
    return error


def origin_of(error: BaseException) -> tuple[str, bool]:
    """The package whose line made an error, and whether by a `raise`.

    An error that comes from another process brings the answer along, as `origin`.
    """
    trace = error.__traceback__
    found: tuple[str, bool] | None = getattr(error, "origin", None)
    if found is not None or trace is None:
        return found or ("", False)
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "")
    operation = dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]]
    return module.split(".")[0], operation == "RAISE_VARARGS"


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
    found = False
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in instead_of:
            with suppress(ValueError):  # of a program that calls this in a thread
                signal.signal(number, handler)
                found = True
    return found


def _leave() -> None:
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


if late:
    atexit.register(_leave)  # what is registered first is called last
    handle_signals(stop_at_once, signal.SIG_DFL, signal.default_int_handler)


@contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Sends what native code writes to standard error nowhere.

    TensorFlow's first messages ignore log levels. With TF_CPP_MIN_LOG_LEVEL set to 0 or
    1 they are shown all the same.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        yield
        return
    try:
        kept = os.dup(2)
    except OSError:  # a process without standard error
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
