"""Trainings in processes of their own, several at a time."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._keras import keras
from ..run import stoppable
from ..settings import RunSettings
from ._outcomes import Outcome, plain_settings

_log = logging.getLogger("larq_nobn")
Task = Callable[[RunSettings, Path, keras.callbacks.Callback | None], Outcome | None]
Watch = Callable[[str, RunSettings], keras.callbacks.Callback]
# A server that has imported the package, and computed nothing, forks processes off at
# once; where there is none they import it themselves.
_METHOD = (
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)
_STOPPED = 128 + signal.SIGINT
_SECONDS_BETWEEN_BATCHES = 0.5


@dataclass
class _Cell:
    """A training that goes on in another process."""

    name: str
    process: Any
    progress: keras.callbacks.Callback | None


def in_processes(
    task: Task,
    cells: Mapping[str, tuple[RunSettings, Path]],
    watch: Watch | None,
    jobs: int,
) -> Iterator[tuple[str, Outcome | None]]:
    """Yields what a task makes of each cell, as soon as that is known.

    What is raised in a process is raised here. One that is killed has failed, and the
    others go on. However this ends, no process is left.

    Arguments:
        task: A function of a module.
        cells: Settings and folder by name.
        watch: Gives, when a cell begins, a callback that is told here of its epochs,
            and now and then of a batch; it has no model.
        jobs: How many at a time.
    """
    context: Any = multiprocessing.get_context(_METHOD)
    if _METHOD == "forkserver":
        context.set_forkserver_preload(["larq_nobn"])
    waiting = list(cells)
    running: dict[Any, _Cell] = {}
    with stoppable():
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    name = waiting.pop(0)
                    pipe, end = context.Pipe(duplex=False)
                    process = context.Process(
                        target=_work, args=(task, *cells[name], end), daemon=True
                    )
                    process.start()
                    end.close()
                    progress = watch and watch(name, cells[name][0])
                    running[pipe] = _Cell(name, process, progress)
                for pipe in multiprocessing.connection.wait(list(running)):
                    cell = running[pipe]
                    kind, value = _received(pipe, cell)
                    if kind == "killed":
                        settings, folder = cells[cell.name]
                        said = plain_settings(settings)
                        value = Outcome(os.fspath(folder), said, failure=value)
                    if kind in ("done", "killed"):
                        cell.process.join()
                        del running[pipe]
                        yield cell.name, value
        finally:
            for cell in running.values():
                cell.process.terminate()
            for cell in running.values():
                cell.process.join()


def _received(pipe: Any, cell: _Cell) -> tuple[str, Any]:
    """What a process says; heeds all that is not its end."""
    try:
        kind, value = pipe.recv()
    except EOFError:
        cell.process.join()
        if cell.process.exitcode == _STOPPED:
            raise KeyboardInterrupt from None
        if cell.progress is not None:
            cell.progress.on_train_end()  # which nobody else says then
        return "killed", (
            f"Its process ended with exit code {cell.process.exitcode}. See whether "
            "memory was short, with fewer --jobs then; the same command goes on."
        )
    if kind == "error":
        raise value
    if kind == "said":
        level, message = value
        _log.log(level, "%s: %s", cell.name, message)
    elif kind == "progress" and cell.progress is not None:
        params, method, arguments = value
        cell.progress.set_params(params)
        getattr(cell.progress, method)(*arguments)
    return kind, value


def _work(task: Task, settings: RunSettings, folder: Path, pipe: Any) -> None:
    """Does the task in the new process."""
    # Several share a GPU only if none takes all of its memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    _log.addHandler(_Handler(pipe))
    _log.propagate = False
    try:
        pipe.send(("done", task(settings, folder, _Relay(pipe))))
    except KeyboardInterrupt:
        sys.exit(_STOPPED)
    except BrokenPipeError:  # nobody is there any more
        sys.exit(1)
    except Exception as error:
        pipe.send(("error", _picklable(error)))


def _picklable(error: Exception) -> Exception:
    """The same error, or one that says as much and can be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Handler(logging.Handler):
    """Sends what is logged to the first process."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(logging.WARNING)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        self._pipe.send(("said", (record.levelno, record.getMessage())))


class _Relay(keras.callbacks.Callback):
    """Tells the first process how far a training is."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self._supports_tf_logs = True  # those of a batch stay on the device
        self._pipe = pipe
        self._last = 0.0

    def _send(self, method: str, *arguments: Any) -> None:
        self._pipe.send(("progress", (self.params, method, arguments)))

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._send("on_train_begin")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._send("on_epoch_begin", epoch)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_BATCHES:
            self._last = time.monotonic()
            self._send("on_train_batch_end", batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._send("on_epoch_end", epoch, values)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._send("on_train_end")
