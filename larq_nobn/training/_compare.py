"""Trains a grid of runs, each by the command `larq-nobn train`, and compares them."""

from __future__ import annotations

import itertools
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from .._checks import check_bounds, check_kind, check_list, check_path
from .._errors import InvalidValue, needing
from .._files import check_folder
from .._signals import stoppable
from ..config._run_files import HISTORY_FILE, INNER_RUNS, SETTINGS_FILE, write_json
from ..config._settings import words
from ..data import open_dataset
from . import _run_folder
from ._callbacks import check_validated
from ._comparison import COMPARED_FILES, Comparison, Outcome, differing, named_apart
from ._run_settings import OF_NOBN, RunSettings

_log = logging.getLogger("larq_nobn")
# Settings that have rows in the table; of others that differ, it shows the best value.
_ROWS = ("label", "normalization", "recipe", "batch_size")
# Called with the name of a run, its first stage or teacher, and a new history row.
Progress = Callable[[str, Mapping[str, float]], object]
Process = subprocess.CompletedProcess[str]
Submit = Callable[[Sequence[str]], "Future[Process]"]
# Only errors and warnings of a run are read.
_STREAMS: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.DEVNULL)
_STREAMS |= {"stderr": subprocess.PIPE, "text": True, "errors": "backslashreplace"}
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_CONNECT = 10.0
_SECONDS_OF_GRACE = 10.0


def grid(
    normalizations: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    batch_sizes: Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    recipes: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    **shared: Any,
) -> dict[str, RunSettings]:
    """Returns the settings of every combination, by names such as `"nobn-128-0"`.

    Label, normalization, recipe, batch size, learning rate and seed, as far as they are
    given, make the name.

    Arguments:
        normalizations: As in `RunSettings`; None for that of the recipe, or of the
            network of `init`.
        seeds: One run for each seed, with otherwise equal settings.
        batch_sizes: None for that of the recipe.
        learning_rates: None for that of the recipe.
        recipes: None for the recipe that was tuned for each normalization.
        labels: Names of the normalizations in tables and plots: one for each, or one
            for all; None for the usual names.
        **shared: Settings of all runs.

    Raises:
        TypeError, ValueError: As `RunSettings` does.

    Example:
        ```python
        cells = nobn.training.grid(["batch_norm", "nobn"], seeds=[0, 1], epochs=5)
        ```
    """
    axes: dict[str, Any] = {"normalization": normalizations, "recipe": recipes}
    axes |= {"batch_size": batch_sizes, "learning_rate": learning_rates, "seed": seeds}
    lists = {n: check_list(f"{n}s", v) for n, v in axes.items() if v is not None}
    label_of = {} if labels is None else _labels(labels, lists.get("normalization"))
    runs, network = {}, shared.get("network")
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        recipe = chosen.pop("recipe", None)
        if label_of:
            chosen["label"] = label_of[chosen.get("normalization")]
        if len(lists.get("normalization", ())) > 1 and network is not None:
            other = () if chosen["normalization"] == "nobn" else OF_NOBN
            shared["network"] = {n: v for n, v in network.items() if n not in other}
        settings = RunSettings.from_recipe(recipe, **shared, **chosen)
        named = chosen | {"recipe": recipe, "batch_size": settings.batch_size}
        said = [str(named[n]) for n in ("label", *axes) if named.get(n) is not None]
        # Names are folders, so only characters that every system allows remain.
        runs[re.sub(r"[^\w.+-]", ".", "-".join(said))] = settings
    return runs


def _labels(labels: Sequence[str], normalizations: Sequence[str] | None) -> Any:
    """Returns the label of each normalization; of None if there are none."""
    names: Any = [None] if normalizations is None else normalizations
    labels = check_list("labels", labels)
    if len(labels) not in (1, len(names)):
        raise InvalidValue(
            f"labels={','.join(labels)} are {len(labels)} labels for {len(names)} "
            "normalizations. Give one for each, in the same order, or one for all."
        )
    return dict(zip(names, len(names) * labels, strict=False))


def compare(
    cells: Mapping[str, RunSettings],
    output: str | os.PathLike,
    progress: Progress | None = None,
    jobs: int = 1,
    trust: bool = False,
    scheduler: str | None = None,
    imports: Sequence[str] = (),
) -> Comparison:
    """Trains every run of a grid; compares by normalization, recipe and batch size.

    Each run has a folder in `output` and is trained by a process of its own, with the
    command `larq-nobn train --resume --config`. To continue after a stop, repeat the
    call: finished runs are not trained again, and unfinished ones are resumed. If a run
    fails, the others are still trained; the comparison contains the error message, and
    the next call tries again. A folder that cannot be resumed is rejected before the
    first training. The best of other settings that differ, such as learning rates, are
    selected on a validation split, which is then needed. `compare.json` contains
    `Comparison.to_dict()`, `compare.png` the curves if matplotlib is installed.

    Arguments:
        cells: Settings by name, as `grid` returns them.
        output: The folder of all run folders.
        progress: Called with the name of a run and each new row of its `history.csv`.
        jobs: Number of runs to train at a time on this machine.
        trust: Whether code from the files of `init` and of a teacher may run, as in
            `open_model`. Only for files of your own.
        scheduler: The address of a Dask scheduler, such as `"tcp://192.168.0.2:8786"`.
            Its workers train instead of `jobs`, one run per thread; they need the same
            files and the same Python as this process. Runs that have started are
            finished even if this process is stopped.
        imports: Modules that every run imports first, such as those of your layers.

    Raises:
        ConnectionError: If no scheduler answers, or the connection to it is lost.
        FileExistsError: If the folder of a run contains something else.
        FileNotFoundError: If this process does not find what the workers have written.
        ImportError: If `scheduler` is given and `distributed` is not installed.
        NotADirectoryError: If `output` is a file.
        TypeError: If `jobs` is not a whole number.
        ValueError: If there are no runs, if `jobs` is below 1 or given together with
            `scheduler`, if the folder of a run contains a run of other settings, or if
            settings would be selected on test images.

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
    wanted = "RunSettings. Make them with grid"
    for name, each in cells.items():
        check_kind(f"cells[{name!r}]", each, RunSettings, wanted)
    check_folder(folder, "a comparison")
    check_bounds("jobs", jobs)
    if scheduler is not None and jobs != 1:
        raise InvalidValue(
            f"jobs={jobs} and scheduler={scheduler!r} were given. Choose one: "
            "processes of this machine, or the workers of a cluster."
        )
    settings_of = {name: _run_folder.plain(each) for name, each in cells.items()}
    apart = differing([*settings_of.values()])
    if chosen := [name for name in apart if name not in (*_ROWS, "dataset")]:
        for each in cells.values():
            info = open_dataset(**each.images).info
            check_validated(f"the {' and '.join(map(words, chosen))}", info)
    commands, failures = {}, {}
    for name, plain in settings_of.items():
        if not _run_folder.is_finished(folder / name, plain):
            _run_folder.check_output(folder / name, plain, True)
            commands[name] = train_command(folder / name, trust, imports)
    for name in commands:
        if _run_folder.before_first_checkpoint(folder / name):
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_json(folder / name / SETTINGS_FILE, settings_of[name])
    if commands:
        with stoppable(), _executing(jobs, scheduler) as submit:
            failures = _run(commands, folder, submit, progress)
    outcomes = [
        Outcome(os.fspath(folder / name), plain, failure=failures[name])
        if name in failures
        else Outcome.read(folder / name)
        for name, plain in settings_of.items()
    ]
    by = [name for name in _ROWS if name in apart] or ["normalization"]
    comparison = Comparison(named_apart(outcomes), by)
    numbers, plot = (folder / name for name in COMPARED_FILES)
    comparison.to_json(numbers)
    plot.unlink(missing_ok=True)  # a plot of fewer runs
    if len(failures) < len(outcomes):
        try:
            comparison.draw(plot)
        except ImportError as error:
            _log.warning("%s", error)
    return comparison


def train_command(
    folder: Path, trust: bool = False, imports: Iterable[str] = ()
) -> list[str]:
    """Returns the command that trains or resumes the run of a folder."""
    return [
        *(sys.executable, "-m", "larq_nobn", "train", "--resume"),
        *(f"--config={folder / SETTINGS_FILE}", f"--output={folder}"),
        *["--trust"] * trust,
        *(f"--import={module}" for module in imports),
    ]


def _run(
    commands: Mapping[str, Sequence[str]],
    folder: Path,
    submit: Submit,
    progress: Progress | None,
) -> dict[str, str]:
    """Runs all commands; returns the error message of each run that failed."""
    failures: dict[str, str] = {}
    seen: dict[str, int] = {}
    list(_new_rows(folder, commands, seen))  # skips the rows before a resume
    futures = {submit(command): name for name, command in commands.items()}
    pending = set(futures)
    while pending:
        done, pending = wait(pending, _SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
        for name, row in _new_rows(folder, commands, seen):
            if progress is not None:
                progress(name, row)
        for future in done:
            failure, said = _messages_of(future)
            for line in said:
                _log.warning("%s: %s", futures[future], line)
            if failure is not None:
                failures[futures[future]] = failure
    return failures


def _new_rows(
    folder: Path, names: Iterable[str], seen: dict[str, int]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields new history rows of runs, their first stages and their teachers."""
    for place in (str(Path(n, inner)) for n in names for inner in (*INNER_RUNS, "")):
        file = folder / place / HISTORY_FILE
        rows = _run_folder.rows_of(file) if file.is_file() else []
        yield from ((place, row) for row in rows[seen.get(place, 0) :])
        seen[place] = len(rows)


def _messages_of(future: Future[Process]) -> tuple[str | None, list[str]]:
    """Returns the error message of a run, or None, and its other messages."""
    if future.cancelled():
        raise ConnectionError(
            "The scheduler is lost. Start it again, and repeat the command to continue."
        )
    if (error := future.exception()) is not None:
        return (
            f"It did not run: {error}. Start workers that have the same files, and the "
            "same Python, as this command."
        ), []
    code, lines = future.result().returncode, future.result().stderr.splitlines()
    if code == 0:
        return None, lines
    if code > 0 and lines:
        return lines[-1].removeprefix("Error: "), lines[:-1]
    return (
        f"Its process ended with exit code {code}. If memory was short, train fewer "
        "runs at a time; repeat the command to continue."
    ), lines


@contextmanager
def _processes(jobs: int) -> Iterator[Submit]:
    """Yields a function that runs a command in a process; stops all at the end."""
    started: list[subprocess.Popen[str]] = []
    stopped = Event()

    def run(command: Sequence[str]) -> Process:
        process = subprocess.Popen(
            command,
            # Several processes share a GPU only if none takes all of its memory.
            env={"TF_FORCE_GPU_ALLOW_GROWTH": "true", **os.environ},
            start_new_session=True,  # Ctrl-C reaches this process, which stops them
            **_STREAMS,
        )
        started.append(process)
        if stopped.is_set():  # while the process started
            process.terminate()
        _, said = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, stderr=said)

    with ThreadPoolExecutor(jobs) as executor:
        try:
            yield lambda command: executor.submit(run, command)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            stopped.set()
            for process in started:
                process.terminate()
            for process in started:  # each gets time to write a checkpoint
                try:
                    process.wait(_SECONDS_OF_GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()


@contextmanager
def _executing(jobs: int, scheduler: str | None) -> Iterator[Submit]:
    if scheduler is None:
        with _processes(jobs) as submit:
            yield submit
        return
    with needing("scheduler needs Dask", "cluster"):
        from distributed import Client
    try:
        client = Client(scheduler, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConnectionError(
            f"No Dask scheduler answers at scheduler={scheduler!r}. Start one by `dask "
            "scheduler`, and give the address that it prints, as in "
            "tcp://192.168.0.2:8786."
        ) from error
    with client:
        executor, place = client.get_executor(pure=False), os.getcwd()
        try:
            yield lambda command: executor.submit(
                subprocess.run, command, cwd=place, **_STREAMS
            )
        finally:
            executor.shutdown(wait=False)  # cancels the runs that have not started
