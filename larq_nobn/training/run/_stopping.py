"""Ends a training when the process is asked to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..._keras import keras


class Terminated(SystemExit):
    """SIGTERM has come while a network was trained.

    Where nothing catches it the process ends, with exit code 143 and without a message,
    as others do that heed the signal.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


# The handlers that Python begins with. Whoever has set others wants them.
_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
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
        """Handles a signal."""
        self._pending = _RAISES[number]
        raise self._pending

    def check(self) -> None:
        """Raises what a signal asked for."""
        if self._pending is not None:
            raise self._pending

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Checks."""
        self.check()

    def on_test_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Checks."""
        self.check()


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
            if signal.getsignal(number) is usual:
                replaced[number] = signal.signal(number, check.take)
    try:
        yield check
    finally:
        for number, before in replaced.items():
            signal.signal(number, before)
