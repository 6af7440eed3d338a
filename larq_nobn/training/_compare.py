"""A grid of runs, each the command `larq-nobn train`, put side by side."""

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
from ..config._run_files import HISTORY_FILE, PARTS, SETTINGS_FILE, write_json
from ..config._settings import words
from ..data import open_dataset
from . import _run_folder
from ._callbacks import check_validated
from ._report import COMPARED_FILES, Comparison, Outcome, differing, named_apart
from ._settings import OF_NOBN, RunSettings

_log = logging.getLogger("larq_nobn")
# What a table has a row for; among other settings that differ, the best is shown.
_ROWS = ("label", "normalization", "recipe", "batch_size")
# Takes the name of a run, or of a part of it, and a new row of its history.
Progress = Callable[[str, Mapping[str, float]], object]
Process = subprocess.CompletedProcess[str]
Submit = Callable[[Sequence[str]], "Future[Process]"]
# Only what a run says beside its results is of interest.
_STREAMS: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.DEVNULL,
    "stderr": subprocess.PIPE,
    "text": True,
    "errors": "backslashreplace",
}
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
    """Returns the settings of every combination, under a name each.

    Arguments:
        normalizations: As in `RunSettings`; None for that of the recipe, or of the
            network of `init`.
        seeds: Runs that differ in nothing else.
        batch_sizes: None for that of the recipe.
        learning_rates: None for that of the recipe.
        recipes: None for the one that suits each normalization.
        labels: What tables and plots call the normalizations, one for each, or all that
            there are; None for their names.
        **shared: Settings of all runs.

    Returns:
        Settings by name, such as `"nobn-128-0"`: normalization, batch size, seed, and
        before and in between what further lists were given for.

    Raises:
        TypeError, ValueError: As `RunSettings` does.

    Example:
        ```python
        cells = nobn.training.grid(["batch_norm", "nobn"], seeds=[0, 1], epochs=5)
        ```
    """
    axes: dict[str, Any] = {
        "normalization": normalizations,
        "recipe": recipes,
        "batch_size": batch_sizes,
        "learning_rate": learning_rates,
        "seed": seeds,
    }
    given = {n: check_list(f"{n}s", v) for n, v in axes.items() if v is not None}
    called = {} if labels is None else _called(labels, given.get("normalization"))
    runs, network = {}, shared.get("network")
    for values in itertools.product(*given.values()):
        chosen = dict(zip(given, values, strict=True))
        recipe = chosen.pop("recipe", None)
        if called:
            chosen["label"] = called[chosen.get("normalization")]
        how = dict(shared)
        if len(given.get("normalization", ())) > 1 and network is not None:
            other = () if chosen["normalization"] == "nobn" else OF_NOBN
            how["network"] = {n: v for n, v in network.items() if n not in other}
        settings = RunSettings.from_recipe(recipe, **how, **chosen)
        parts = chosen | {"recipe": recipe, "batch_size": settings.batch_size}
        said = [str(parts[n]) for n in ("label", *axes) if parts.get(n) is not None]
        # As names of folders on any system.
        runs[re.sub(r"[^\w.+-]", ".", "-".join(said))] = settings
    return runs


def _called(labels: Sequence[str], normalizations: Sequence[str] | None) -> Any:
    """Returns the label of each normalization, or of None."""
    names: list[Any] = [None] if normalizations is None else [*normalizations]
    labels = check_list("labels", labels)
    if len(labels) not in (1, len(names)):
        raise InvalidValue(
            f"labels={','.join(labels)} are {len(labels)} for {len(names)} "
            "normalizations. Give one for each, in their order, or one for all."
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
    """Trains every run of a grid and puts the results side by side.

    Each run is the command `larq-nobn train --resume --config`, in a process and with a
    folder in `output` of its own, whose `settings.json` it reads. One that is finished
    is not trained again and one that was stopped is resumed, so that the same call
    continues after any stop. A run that fails is noted with the last sentence of its
    command, to be tried again by the next call, and the others are trained. What cannot
    be resumed is rejected before the first training. `compare.json` contains all that
    `Comparison.to_dict` returns, `compare.png` the curves if matplotlib is there.

    Arguments:
        cells: Settings by name, as `grid` returns them.
        output: The folder.
        progress: Called with the name of a run and each new row of its `history.csv`.
        jobs: How many runs to train at a time on this machine.
        trust: Whether code from the files of `init` and of a teacher may run, as in
            `open_model`. For files of your own.
        scheduler: The address of a Dask scheduler, as in `"tcp://192.168.0.2:8786"`,
            whose workers train in place of `jobs`, as many runs at a time as they have
            threads. They see the same files, and the same Python, as this process. What
            they have started when this process is stopped is trained to its end.
        imports: Modules that every run imports first, as those with own layers.

    Where other settings compete, such as learning rates, a validation split chooses.

    Returns:
        The comparison, by normalization, recipe and batch size.

    Raises:
        ConnectionError: If no scheduler answers, or it is lost.
        FileExistsError: If the folder of a run contains something else.
        FileNotFoundError: If workers write where this process does not find it.
        ImportError: If `scheduler` is given and `distributed` is not installed.
        NotADirectoryError: If `output` is a file.
        TypeError: If `jobs` is not a whole number.
        ValueError: If there are no runs, `jobs` is below 1 or given beside `scheduler`,
            the folder of a run contains one of other settings, or test images would
            choose among settings.

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
    commands = {}
    for name, plain in settings_of.items():
        if not _run_folder.is_finished(folder / name, plain):
            _run_folder.check_output(folder / name, plain, True)
            commands[name] = train_command(folder / name, trust, imports)
    for name in commands:
        if _run_folder.before_first_checkpoint(folder / name):
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_json(folder / name / SETTINGS_FILE, settings_of[name])
    failures: dict[str, str] = {}
    if commands:
        with stoppable(), _executing(jobs, scheduler) as submit:
            failures = _run(commands, folder, submit, progress)
    outcomes = [
        Outcome(
            os.fspath(folder / name),
            plain,
            failure=failures[name],
        )
        if name in failures
        else Outcome.read(folder / name)
        for name, plain in settings_of.items()
    ]
    by = [name for name in _ROWS if name in apart] or ["normalization"]
    comparison = Comparison(named_apart(outcomes), by)
    numbers, plot = (folder / name for name in COMPARED_FILES)
    comparison.to_json(numbers)
    plot.unlink(missing_ok=True)  # that of a smaller grid
    if len(failures) < len(outcomes):
        try:
            comparison.draw(plot)
        except ImportError as error:
            _log.warning("%s", error)
    return comparison


def train_command(
    folder: Path, trust: bool = False, imports: Iterable[str] = ()
) -> list[str]:
    """Returns the command that trains, or resumes, what a folder's settings say."""
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
    """Runs all commands; returns why some failed, in a sentence each."""
    failures: dict[str, str] = {}
    seen: dict[str, int] = {}
    list(_new_rows(folder, commands, seen))  # of runs that are resumed
    futures = {submit(command): name for name, command in commands.items()}
    pending = set(futures)
    while pending:
        done, pending = wait(pending, _SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
        for name, row in _new_rows(folder, commands, seen):
            if progress is not None:
                progress(name, row)
        for name, future in ((futures[future], future) for future in done):
            failure, said = _messages_of(future)
            for line in said:
                _log.warning("%s: %s", name, line)
            if failure is not None:
                failures[name] = failure
    return failures


def _new_rows(
    folder: Path, names: Iterable[str], seen: dict[str, int]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields what runs, their first stages and teachers have added to histories."""
    for place in (str(Path(name, part)) for name in names for part in (*PARTS, "")):
        file = folder / place / HISTORY_FILE
        rows = _run_folder.rows_of(file) if file.is_file() else []
        yield from ((place, row) for row in rows[seen.get(place, 0) :])
        seen[place] = len(rows)


def _messages_of(future: Future[Process]) -> tuple[str | None, list[str]]:
    """Returns why a run failed, or None, and what else its command said."""
    if future.cancelled():
        raise ConnectionError(
            "The scheduler is lost. Start it again; the same command continues."
        )
    error = future.exception()
    if error is not None:
        return (
            f"It did not run: {error}. Start workers where they see the same files, "
            "and the same Python, as the command does."
        ), []
    code, lines = future.result().returncode, future.result().stderr.splitlines()
    if code == 0:
        return None, lines
    if code > 0 and lines:
        return lines[-1].removeprefix("Error: "), lines[:-1]
    return (
        f"Its process ended with exit code {code}. See whether memory was short, with "
        "fewer runs at a time then; the same command continues."
    ), lines


@contextmanager
def _processes(jobs: int) -> Iterator[Submit]:
    """Threads that wait for a process each; in the end, all are stopped."""
    started: list[subprocess.Popen[str]] = []
    stopped = Event()

    def run(command: Sequence[str]) -> Process:
        process = subprocess.Popen(
            command,
            # Several share a GPU only if none takes all of its memory.
            env={"TF_FORCE_GPU_ALLOW_GROWTH": "true", **os.environ},
            start_new_session=True,  # Ctrl-C is for this process, which stops it
            **_STREAMS,
        )
        started.append(process)
        if stopped.is_set():  # in between
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
            for process in started:  # with time to leave its folder as it should be
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
            executor.shutdown(wait=False)  # which cancels what waits
