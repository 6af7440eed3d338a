"""A grid of runs, trained here or by the workers of a cluster, and put side by side."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..._checks import check_bounds, check_kind, check_list, check_path
from ..._errors import InvalidValue, MissingPackage
from ..._files import check_folder, check_utf8
from ..._keras import keras
from ..._names import GIVEN
from ...config import words
from ...data import open_dataset
from .._settings import RunSettings
from .._stopping import NonFiniteLoss, stoppable
from .._trainer import train
from ..folder import RunInUse, check_output, is_finished, kept_settings
from ._apart import Killed, Tell, apart
from ._report import Comparison, Outcome, differing, plain_settings

_log = logging.getLogger("larq_nobn")
# What a table has a row for; among other settings that differ, the best is shown.
_ROWS = ("normalization", "recipe", "batch_size")
# Gives the callback that watches a run.
Watcher = Callable[[str, RunSettings], keras.callbacks.Callback]
# Trains what is told by messages, and returns why there is no result, if so.
Function = Callable[..., "str | None"]
# Takes the name of a run, then its settings, folder and trust.
Submit = Callable[..., "Future[str | None]"]
# What is told of a run: its name, the kind, and the content.
Messages = SimpleQueue[tuple[str, str, Any]]
# How often a run is taken up whose process is killed.
_ATTEMPTS = 3
# How long the process of an earlier attempt may take to end.
_PATIENCE = 30.0
_SECONDS_BETWEEN_BATCHES = 0.5
_SECONDS_TO_CONNECT = 10.0


def grid(
    normalizations: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    batch_sizes: Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    recipes: Sequence[str] | None = None,
    **shared: Any,
) -> dict[str, RunSettings]:
    """Returns the settings of every combination, under a name each.

    Arguments:
        normalizations: As in `RunSettings`; None for that of the recipe, or of the
            network of `init`.
        seeds: Runs that differ in nothing else.
        batch_sizes: None for that of the recipe.
        learning_rates: None for that of the recipe.
        recipes: None for the one that suits each normalization.
        **shared: Settings of all runs.

    Returns:
        Settings by name, such as `"nobn-128-0"`: normalization, batch size, seed, and
        in between what further lists were given for.

    Raises:
        TypeError, ValueError: As `RunSettings` does, and for lists that are empty or
            hold something twice.

    Example:
        ```python
        cells = nobn.training.grid(["batch_norm", "nobn"], seeds=[0, 1], epochs=5)
        ```
    """
    axes = {
        "normalizations": normalizations,
        "recipes": recipes,
        "batch_sizes": batch_sizes,
        "learning_rates": learning_rates,
        "seeds": seeds,
    }
    for name, values in axes.items():
        if values is None:
            continue
        found = check_list(name, values)
        if not found or any(each in found[:i] for i, each in enumerate(found)):
            raise InvalidValue(
                f"{name}={list(found)} is empty or contains something twice. Give each "
                "value once."
            )
    runs = {}
    lists: Any = [[None] if values is None else values for values in axes.values()]
    for normalization, recipe, batch_size, rate, seed in itertools.product(*lists):
        chosen = {
            "normalization": normalization,
            "batch_size": batch_size,
            "learning_rate": rate,
            "seed": seed,
        }
        chosen = {name: value for name, value in chosen.items() if value is not None}
        settings = RunSettings.from_recipe(recipe, **shared, **chosen)
        parts = [normalization, recipe, settings.batch_size, rate, seed]
        runs["-".join(str(part) for part in parts if part is not None)] = settings
    return runs


def compare(
    cells: Mapping[str, RunSettings],
    output: str | os.PathLike,
    watch: Watcher | None = None,
    jobs: int | None = None,
    trust: bool = False,
    scheduler: str | None = None,
) -> Comparison:
    """Trains every run of a grid and puts the results side by side.

    Each run has a folder in `output`. One that is finished is not trained again and one
    that was stopped is resumed, so that the same call continues after any stop. A run
    whose loss does not stay finite, whose process is killed time and again, or whose
    folder is in use is noted as failed, to be tried again by the next call, and the
    others are trained. What cannot be resumed is rejected before the first training.
    `compare.json` contains all that `Comparison.to_dict` returns, `compare.png` the
    curves if matplotlib is there.

    Arguments:
        cells: Settings by name, as `grid` returns them.
        output: The folder.
        watch: Gives, from the name and the settings of a run, a Keras callback that
            watches its training.
        jobs: How many runs to train at a time, each in a process of its own, so that
            memory does not grow from run to run; a script calls it under
            `if __name__ == "__main__":` then, and the callbacks are told of epochs, and
            now and then of a batch, without a model. A process that is killed costs
            what came after the last checkpoint. None: one after the other, in this
            process.
        trust: Whether code from the files of `init` and of a teacher may run, as in
            `open_model`. For files of your own.
        scheduler: The address of a Dask scheduler, as in `"tcp://192.168.0.2:8786"`,
            whose workers train in place of `jobs`, as many runs at a time as they have
            threads. They see the same folders as this process. If one dies, another
            takes up its run.

    Where other settings compete, such as learning rates, and there is no validation
    split, a tenth of the training images is held out to choose by.

    Returns:
        The comparison, by normalization, recipe and batch size.

    Raises:
        ConnectionError: If no scheduler answers, or it is lost.
        FileExistsError: If the folder of a run contains something else.
        ImportError: If `scheduler` is given and `distributed` is not installed.
        NotADirectoryError: If `output` is a file.
        TypeError: If `jobs` is not a whole number.
        ValueError: If there are no runs, `jobs` is below 1 or given beside `scheduler`,
            or the folder of a run contains one of other settings.

    Example:
        ```python
        cells = nobn.training.grid(
            ["none", "nobn"], dataset="digits", width=8, blocks=(1, 1), epochs=1
        )
        print(nobn.training.compare(cells, "runs/digits"))
        ```
    """
    folder = Path(check_path("output", output))
    check_kind("cells", cells, Mapping, "settings by name. Make them with grid")
    for name, settings in cells.items():
        wanted = "RunSettings. Make them with grid"
        check_kind(f"cells[{name!r}]", settings, RunSettings, wanted)
    check_folder(folder, "a comparison")
    check_utf8(folder, "a comparison")
    if jobs is not None:
        check_bounds("jobs", jobs)
        if scheduler is not None:
            raise InvalidValue(
                f"jobs={jobs} and scheduler={scheduler!r} were given. Choose one: "
                "processes of this machine, or the workers of a cluster."
            )
    cells = _choosing_on_validation(cells, folder)
    left = {}
    for name, settings in cells.items():
        said = plain_settings(settings)
        if not is_finished(folder / name, said):
            check_output(folder / name, said, resume=True)
            left[name] = settings
    failures: dict[str, str | None] = {}
    if jobs is None and scheduler is None:
        for name, settings in left.items():
            progress = watch and watch(name, settings)
            failures[name] = attempt(settings, folder / name, progress, trust)
            if progress is not None and failures[name]:
                progress.on_train_end()  # which Keras leaves out then
    elif left:
        messages: Messages = SimpleQueue()

        def over(name: str) -> Callable[[Future], None]:
            return lambda future: messages.put((name, "over", future))

        with stoppable(), executing(training, jobs, scheduler, messages) as submit:
            for name, settings in left.items():
                future = submit(name, settings, folder / name, trust)
                future.add_done_callback(over(name))
            failures = _heard(left, messages, watch)
        for name in left:
            if not failures[name] and not (folder / name / "run.json").is_file():
                raise FileNotFoundError(
                    f"{folder / name} was trained by a worker, but is not there. Start "
                    "workers where they see the same files as the command does."
                )
    outcomes = [
        Outcome(os.fspath(folder / n), plain_settings(s), failure=failures[n])
        if failures.get(n)
        else Outcome.read(folder / n)
        for n, s in cells.items()
    ]
    found = differing([each.settings for each in outcomes])
    by = [name for name in _ROWS if name in found] or [_ROWS[0]]
    comparison = Comparison(outcomes, by)
    folder.mkdir(parents=True, exist_ok=True)  # where all failed there is none
    comparison.to_json(folder / "compare.json")
    plot = folder / "compare.png"
    plot.unlink(missing_ok=True)  # that of a smaller grid
    if not all(each.failure for each in outcomes):
        try:
            comparison.draw(plot)
        except ImportError as error:
            _log.warning("%s", error)
    return comparison


def _choosing_on_validation(
    cells: Mapping[str, RunSettings], folder: Path
) -> Mapping[str, RunSettings]:
    """The runs with images held out, if the table would choose among them without.

    Runs that are there already stay what they are, and so do images that are given.
    """
    said = [plain_settings(settings) for settings in cells.values()]
    chosen = [n for n in differing(said) if n not in (*_ROWS, "dataset")]
    if not chosen or any(
        settings.dataset == GIVEN
        or open_dataset(**settings.images).info.validation_examples
        for settings in cells.values()
    ):
        return cells
    for name in cells:
        kept = kept_settings(folder / name)
        if kept is not None and not kept.get("validation"):
            return cells
    _log.warning(
        "No validation split to choose %s by: a tenth of the training images is held "
        "out (--validation 0.1), and the test images are read once, at the end.",
        " and ".join(map(words, chosen)),
    )
    return {n: replace(settings, validation=0.1) for n, settings in cells.items()}


def _heard(
    cells: Mapping[str, RunSettings], messages: Messages, watch: Watcher | None
) -> dict[str, str | None]:
    """Reports what runs send until all are over; returns why they failed, or None.

    What is raised where one is trained is raised here.
    """
    watching: dict[str, keras.callbacks.Callback] = {}
    failures: dict[str, str | None] = {}
    while len(failures) < len(cells):
        name, kind, content = messages.get()
        progress = watching.get(name)
        if name in failures:
            continue  # what was told is slower than the result
        if kind == "begins" and watch is not None and progress is None:
            watching[name] = watch(name, cells[name])
        elif kind == "said":
            level, message = content
            _log.log(level, "%s: %s", name, message)
        elif kind == "progress" and progress is not None:
            params, method, arguments = content
            progress.set_params(params)
            getattr(progress, method)(*arguments)
        elif kind == "over":
            failures[name] = failure_of(content)
            if progress is not None and failures[name] is not None:
                progress.on_train_end()  # which nobody else says then
    return failures


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
    return attempt(settings, folder, _Relay(tell), trust, _PATIENCE)


def executing(
    function: Function, jobs: int | None, scheduler: str | None, messages: Messages
) -> AbstractContextManager[Submit]:
    """Yields what calls a function in a process of its own, here or on a cluster.

    However this ends, no process is left here, and those of a cluster are told to end.
    The messages get the start of each run, and what `apart` tells.
    """
    if scheduler is None:
        return _here(function, jobs or 1, messages)
    return _on_cluster(function, scheduler, messages)


@contextmanager
def _here(function: Function, jobs: int, messages: Messages) -> Iterator[Submit]:
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
    function: Function, address: str, messages: Messages
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
        raise MissingPackage(
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
    """Why a run that is over has no result, if so; raises what was raised there."""
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
    function: Function, topic: str, folder: str, name: str, *task: Any
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
    function: Function,
    task: tuple[Any, ...],
    folder: str,
    tell: Tell,
    wanted: Callable[[], bool],
) -> str | None:
    """Calls the function again where its process is killed, a few times."""
    tell("begins", None)
    for left in reversed(range(_ATTEMPTS)):
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
        f"{said}, at each of {_ATTEMPTS} attempts. See whether memory was short, with "
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
