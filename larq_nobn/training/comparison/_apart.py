"""A call in a process of its own, which tells meanwhile how far it is.

This file is also the script of that process. It imports nothing but the standard
library, and the process no more than the call needs.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import spawn
from typing import Any

# Takes the kind of what is told, and its content, of plain types.
Tell = Callable[[str, Any], None]
_SECONDS_OF_GRACE = 10.0
_SECONDS_BETWEEN_LOOKS = 0.2


class Killed(RuntimeError):
    """A process ended without an answer; the message has its exit code."""


def apart(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    tell: Tell,
    wanted: Callable[[], bool],
    folder: str,
) -> Any:
    """Returns `function(tell, *arguments)`, computed in a new process.

    What is raised there is raised here. The process ends with this one, whatever kills
    it.

    Arguments:
        function: One of a module. A main program that gets here does so under
            `if __name__ == "__main__":`.
        arguments: What can be pickled.
        tell: Called with what the function tells, and with `"said"` and level and
            message of what is logged.
        wanted: Asked several times a second; False ends the process.
        folder: The process works in it.

    Raises:
        Killed: If the process ends without an answer.
    """
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Several share a GPU only if none takes all of its memory.
        env={"TF_FORCE_GPU_ALLOW_GROWTH": "true", **os.environ},
        start_new_session=True,  # Ctrl-C is for this process, which ends the other
    )
    assert process.stdin is not None and process.stdout is not None
    over = threading.Event()
    watcher = threading.Thread(target=_end_unwanted, args=(process, wanted, over))
    watcher.start()
    try:
        with suppress(BrokenPipeError):
            preparation = {**spawn.get_preparation_data("apart"), "dir": folder}
            del preparation["authkey"]  # is for processes that connect to this one
            task = pickle.dumps((function, arguments))
            pickle.dump((preparation, task), process.stdin)
            process.stdin.flush()
        while True:
            kind, content = pickle.load(process.stdout)
            if kind == "done":
                return content
            if kind == "raised":
                error, error.origin = content
                raise error
            tell(kind, content)
    except (EOFError, pickle.UnpicklingError):
        raise Killed(f"Its process ended with exit code {process.wait()}") from None
    finally:
        process.kill()  # where it has not ended by itself, nobody hears it any more
        process.wait()
        over.set()
        watcher.join()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()


def _end_unwanted(
    process: subprocess.Popen, wanted: Callable[[], bool], over: threading.Event
) -> None:
    """Gives the process time to leave its folder as it should be."""
    while not over.wait(_SECONDS_BETWEEN_LOOKS):
        if not wanted():
            process.terminate()
            if not over.wait(_SECONDS_OF_GRACE):
                process.kill()
            return


def _work() -> None:
    """Answers in the new process, and ends with whoever reads."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # for what libraries print
    given = os.fdopen(os.dup(0), "rb")
    lock = threading.Lock()

    def tell(kind: str, content: Any) -> None:
        with lock:
            pickle.dump((kind, content), answers)
            answers.flush()

    try:
        preparation, task = pickle.load(given)
        # Before the imports of the task, which take seconds.
        threading.Thread(target=_end_with_reader, daemon=True).start()
        spawn.prepare(preparation)
        function, arguments = pickle.loads(task)
        log = logging.getLogger("larq_nobn")
        log.addHandler(_Handler(tell))
        log.propagate = False
        tell("done", function(tell, *arguments))
    except Exception as error:
        tell("raised", (_picklable(error), None))


def _end_with_reader() -> None:
    while os.read(0, 1):
        """Nothing more is sent."""
    os._exit(1)


def _picklable(error: Exception) -> Exception:
    """The same error, or one that says as much and can be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Handler(logging.Handler):
    """Tells what is logged."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell("said", (record.levelno, record.getMessage()))


if __name__ == "__main__":
    _work()
