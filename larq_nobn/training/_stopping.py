"""Ends a training when the process is asked to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .._keras import keras
from .._process import Terminated, stop

# How long a signal may go unheeded where workers wait for each other.
SECONDS_OF_GRACE = 10.0
# The handlers that Python or the command starts with. Who has set others wants them.
_USUAL: dict[int, tuple[object, ...]] = {
    signal.SIGINT: (signal.default_int_handler, stop),
    signal.SIGTERM: (signal.SIG_DFL, stop),
}
_RAISES: dict[int, type[BaseException]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: Terminated,
}


class StopCheck(keras.callbacks.Callback):
    """Raises once more what was raised by a signal, if it got lost.

    Python ignores what is raised while it frees an object, and a training frees many.
    """

    def __init__(self) -> None:
        super().__init__()
        self._supports_tf_logs = True  # logs stay on the device
        self._pending: type[BaseException] | None = None

    def take(self, number: int, frame: object) -> None:
        """Handles a signal: raises now, and again where that is ignored."""
        self._pending = _RAISES[number]
        raise self._pending

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Raises what a signal asked for."""
        if self._pending is not None:
            raise self._pending

    on_test_batch_end = on_train_batch_end


@contextmanager
def ending_surely() -> Iterator[None]:
    """Ends the process where a signal is not obeyed in time.

    What waits in native code for another worker does not come back to Python, which
    alone could raise something. The lock on a run folder ends with the process, and its
    files are whole at any time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    over = threading.Event()

    def watch() -> None:
        while number := os.read(heard, 1)[0]:
            if number in _RAISES and not over.wait(SECONDS_OF_GRACE):
                sys.stderr.write("Stopped; another worker did not answer.\n")
                sys.stderr.flush()
                os._exit(128 + number)

    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.write(told, b"\0")
        thread.join()
        os.close(heard)
        os.close(told)


@contextmanager
def stoppable() -> Iterator[StopCheck]:
    """Makes Ctrl-C and SIGTERM end what is inside by an exception, surely.

    SIGTERM raises `Terminated`, Ctrl-C `KeyboardInterrupt` as usual. Outside of the
    main thread, where Python hands out no signals, and where the program has handlers
    of its own, nothing is changed.

    Yields:
        A callback for `fit`. Inside another `stoppable` it is that one's.
    """
    outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(outer, StopCheck):
        yield outer
        return
    check = StopCheck()
    replaced = {}
    if threading.current_thread() is threading.main_thread():
        for number, usual in _USUAL.items():
            if signal.getsignal(number) in usual:
                replaced[number] = signal.signal(number, check.take)
    try:
        yield check
    finally:
        for number, before in replaced.items():
            signal.signal(number, before)
