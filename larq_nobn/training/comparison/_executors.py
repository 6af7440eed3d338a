"""Where the runs of a grid are trained: here, or by the workers of a cluster."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..._keras import keras
from .._non_finite import NonFiniteLoss
from .._trainer import train
from ..folder import RunInUse
from ..settings import RunSettings
from ._apart import Killed, Tell, apart

_log = logging.getLogger("larq_nobn")
# Takes the name of a run, then its settings, folder and trust.
Submit = Callable[..., "Future[str | None]"]
# What is told of a run: its name, the kind, and the content.
Messages = SimpleQueue[tuple[str, str, Any]]
# How often a run is taken up whose process is killed.
ATTEMPTS = 3
# How long the process of an earlier attempt may take to end.
PATIENCE = 30.0
_SECONDS_BETWEEN_BATCHES = 0.5
_SECONDS_TO_CONNECT = 10.0


def attempt(
    settings: RunSettings,
    folder: Path,
    progress: keras.callbacks.Callback | None,
    trust: bool,
    patience: float = 0.0,
) -> str | None:
    """Trains a run from where it is; returns why there is no result, if so."""
    end = time.monotonic() + patience
    while True:
        try:
            train(settings, folder, progress, resume=True, trust=trust)
            return None
        except NonFiniteLoss as error:
            return str(error)
        except RunInUse as error:
            if time.monotonic() >= end:
                return str(error)
            time.sleep(1.0)


def training(
    tell: Tell, settings: RunSettings, folder: Path, trust: bool
) -> str | None:
    """Trains a run in a process of its own."""
    return attempt(settings, folder, _Relay(tell), trust, PATIENCE)


@contextmanager
def executing(
    function: Callable[..., str | None],
    jobs: int | None,
    scheduler: str | None,
    messages: Messages,
) -> Iterator[Submit]:
    """Yields what calls a function in a process of its own, here or on a cluster.

    However this ends, no process is left here, and those of a cluster are told to end.

    Arguments:
        function: As for `apart`; returns why a run has no result, if so.
        jobs: How many at a time, if here.
        scheduler: The address of the cluster's scheduler.
        messages: Get what is told of each run: "begins", and what `apart` tells.

    Raises:
        ConnectionError: If no scheduler answers there.
        ImportError: If `distributed` is not installed.
    """
    if scheduler is None:
        with _here(function, jobs or 1, messages) as submit:
            yield submit
    else:
        with _on_cluster(function, scheduler, messages) as submit:
            yield submit


@contextmanager
def _here(
    function: Callable[..., str | None], jobs: int, messages: Messages
) -> Iterator[Submit]:
    stopped = threading.Event()
    executor = ThreadPoolExecutor(jobs)

    def run(name: str, *task: Any) -> str | None:
        return _in_a_process(
            function,
            task,
            os.getcwd(),
            lambda kind, content: messages.put((name, kind, content)),
            lambda: not stopped.is_set(),
        )

    try:
        yield lambda *task: executor.submit(run, *task)
    finally:
        stopped.set()
        executor.shutdown(cancel_futures=True)


@contextmanager
def _on_cluster(
    function: Callable[..., str | None], address: str, messages: Messages
) -> Iterator[Submit]:
    with _connected(address) as client:
        topic = f"larq-nobn-{uuid.uuid4()}"
        client.subscribe_topic(topic, lambda event: messages.put(tuple(event[1])))
        executor = client.get_executor(pure=False)
        futures: list[Future[str | None]] = []

        def call(pickled: bytes) -> Any:
            import pickle

            function, *given = pickle.loads(pickled)
            return function(*given)

        def submit(*task: Any) -> Future[str | None]:
            # The scheduler, which reads what it is given, need not have the package.
            given = (_on_worker, function, topic, os.getcwd(), *task)
            futures.append(executor.submit(call, pickle.dumps(given)))
            return futures[-1]

        try:
            yield submit
        finally:
            for future in futures:
                future.cancel()
            client.unsubscribe_topic(topic)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "scheduler needs Dask. Install it with: pip install 'larq-nobn[cluster]'"
        ) from error
    made: Future[Any] = Future()

    def connect() -> None:
        given = {"timeout": _SECONDS_TO_CONNECT, "set_as_default": False}
        try:
            made.set_result(Client(address, **given))
        except Exception as error:
            made.set_exception(error)

    # With what listens there and says nothing it would wait for ever.
    threading.Thread(target=connect, daemon=True).start()
    try:
        client = made.result(2 * _SECONDS_TO_CONNECT)
    except (OSError, ValueError, TypeError, TimeoutError) as error:
        raise ConnectionError(
            f"No Dask scheduler answers at scheduler={address!r}. Start one by `dask "
            "scheduler`, and give the address that it prints, as in "
            "tcp://192.168.0.2:8786."
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            _log.warning(
                "The scheduler at %s has no workers yet: waiting for them. Start one "
                "by `dask worker %s --nthreads 1`.",
                address,
                address,
            )
        yield client


def failure_of(future: Future[str | None]) -> str | None:
    """Why a run that is over has no result, if so; raises what was raised there.

    Raises:
        ConnectionError: If the scheduler is lost.
    """
    if future.cancelled():
        raise ConnectionError(
            "The scheduler is lost. Start it again; the same command continues."
        )
    error = future.exception()
    if error is None:
        return future.result()
    if type(error).__name__ == "KilledWorker":  # of Dask, which need not be there
        return (
            "Worker after worker died with it. See whether their memory was short; the "
            "same command continues."
        )
    raise error.with_traceback(None)


def _on_worker(
    function: Callable[..., str | None], topic: str, folder: str, name: str, *task: Any
) -> str | None:
    """The same by a worker of a cluster; another takes the run up if this one dies."""
    from distributed import get_worker

    worker: Any = get_worker()
    key = worker.get_current_task()
    if not os.path.isdir(folder):
        raise NotADirectoryError(
            f"Worker {worker.address} does not see the folder {folder}. Start workers "
            "where they see the same files as the command does."
        )

    def wanted() -> bool:
        state = worker.state.tasks.get(key)
        return state is not None and state.state != "cancelled"

    return _in_a_process(
        function,
        task,
        folder,
        lambda kind, content: worker.log_event(topic, [name, kind, content]),
        wanted,
    )


def _in_a_process(
    function: Callable[..., str | None],
    task: tuple[Any, ...],
    folder: str,
    tell: Tell,
    wanted: Callable[[], bool],
) -> str | None:
    """Calls the function again where its process is killed, a few times."""
    tell("begins", None)
    for left in reversed(range(ATTEMPTS)):
        try:
            found: str | None = apart(function, task, tell, wanted, folder)
            return found
        except Killed as error:
            said = str(error)
            if not wanted():
                break
            if left:
                again = f"{said}; another resumes the run from its last checkpoint."
                tell("said", (logging.WARNING, again))
    return (
        f"{said}, at each of {ATTEMPTS} attempts. See whether memory was short, with "
        "fewer runs at a time then; the same command continues."
    )


class _Relay(keras.callbacks.Callback):
    """Tells how far a training is."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._supports_tf_logs = True  # those of a batch stay on the device
        self._tell = tell
        self._last = 0.0

    def _send(self, method: str, *arguments: Any) -> None:
        self._tell("progress", (self.params, method, arguments))

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
