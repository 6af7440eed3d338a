"""A grid of runs, trained and put side by side."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..._checks import check_bounds, check_kind, check_list, check_path
from ..._keras import keras
from ...data import GIVEN, describe
from .._stopping import stoppable
from ..folder import check_output, is_finished, kept_settings
from ..settings import RunSettings, words
from ._executors import Messages, attempt, executing, failure_of, training
from ._groups import Outcome, differing, differing_settings, plain_settings
from ._report import Comparison

_log = logging.getLogger("larq_nobn")
# What a table has a row for; among other settings that differ, the best is shown.
_ROWS = ("normalization", "recipe", "batch_size")
Watch = Callable[[str, RunSettings], keras.callbacks.Callback]


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
            raise ValueError(
                f"{name}={list(found)} is empty or holds something twice. Give each "
                "value once."
            )
    cells = {}
    lists: Any = [[None] if values is None else values for values in axes.values()]
    for normalization, recipe, batch_size, rate, seed in itertools.product(*lists):
        chosen = {
            "normalization": normalization,
            "batch_size": batch_size,
            "learning_rate": rate,
            "seed": seed,
        }
        settings = RunSettings.from_recipe(
            recipe,
            **shared,
            **{name: value for name, value in chosen.items() if value is not None},
        )
        parts = [normalization, recipe, settings.batch_size, rate, seed]
        name = "-".join(str(part) for part in parts if part is not None)
        cells[name] = settings
    return cells


def compare(
    cells: Mapping[str, RunSettings],
    output: str | os.PathLike,
    watch: Watch | None = None,
    jobs: int | None = None,
    trust: bool = False,
    scheduler: str | None = None,
) -> Comparison:
    """Trains every run of a grid and puts the results side by side.

    Each run has a folder in `output`. One that is finished is not trained again and one
    that was stopped is resumed, so that the same call continues after any stop. A run
    whose loss does not stay finite, whose process is killed time and again, or whose
    folder is in use is noted as failed, to be tried again by the next call, and the
    others are trained. What cannot be resumed is refused before the first training.
    `compare.json` holds all that `Comparison.to_dict` returns, `compare.png` the curves
    if matplotlib is there.

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
        FileExistsError: If the folder of a run holds something else.
        ImportError: If `scheduler` is given and `distributed` is not installed.
        NotADirectoryError: If `output` is a file.
        TypeError: If `jobs` is not a whole number.
        ValueError: If there are no runs, `jobs` is below 1 or given beside `scheduler`,
            or the folder of a run holds one of other settings.

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
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"{folder} is a file, but a comparison needs a folder. Choose another "
            "output."
        )
    if jobs is not None:
        check_bounds("jobs", jobs)
        if scheduler is not None:
            raise ValueError(
                f"jobs={jobs} and scheduler={scheduler!r} were given. Choose one: "
                "processes of this machine, or the workers of a cluster."
            )
    cells = _choosing_on_validation(cells, folder)
    left = {n: s for n, s in cells.items() if not _is_over(s, folder / n)}
    failures: dict[str, str | None] = {}
    if jobs is None and scheduler is None:
        for name, settings in left.items():
            progress = watch and watch(name, settings)
            failures[name] = attempt(settings, folder / name, progress, trust)
            if progress is not None and failures[name]:
                progress.on_train_end()  # which Keras leaves out then
    elif left:
        messages: Messages = SimpleQueue()
        with stoppable(), executing(training, jobs, scheduler, messages) as submit:
            for name, settings in left.items():
                future = submit(name, settings, folder / name, trust)
                future.add_done_callback(partial(_over, messages, name))
            failures = dict(_heard(left, messages, watch))
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
    found = differing(outcomes)
    by = [name for name in _ROWS if name in found] or [_ROWS[0]]
    comparison = Comparison(outcomes, by)
    folder.mkdir(parents=True, exist_ok=True)  # where all failed there is none
    comparison.to_json(folder / "compare.json")
    picture = folder / "compare.png"
    picture.unlink(missing_ok=True)  # that of a smaller grid
    if all(each.failure for each in outcomes):
        return comparison
    try:
        comparison.draw(picture)
    except ImportError as error:
        _log.warning("%s", error)
    return comparison


def _is_over(settings: RunSettings, folder: Path) -> bool:
    """Whether a run is finished; refuses what cannot be resumed."""
    said = plain_settings(settings)
    if is_finished(folder, said):
        return True
    check_output(folder, said, resume=True)
    return False


def _over(messages: Messages, name: str, future: Future) -> None:
    messages.put((name, "over", future))


def _heard(
    cells: Mapping[str, RunSettings], messages: Messages, watch: Watch | None
) -> Iterator[tuple[str, str | None]]:
    """Heeds what is told of runs until all are over; yields why they failed, or None.

    What is raised where one is trained is raised here.
    """
    watching: dict[str, keras.callbacks.Callback] = {}
    waiting = set(cells)
    while waiting:
        name, kind, content = messages.get()
        progress = watching.get(name)
        if name not in waiting:
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
            waiting.remove(name)
            failure = failure_of(content)
            if progress is not None and failure is not None:
                progress.on_train_end()  # which nobody else says then
            yield name, failure


def _choosing_on_validation(
    cells: Mapping[str, RunSettings], folder: Path
) -> Mapping[str, RunSettings]:
    """The cells with images held out, if the table would choose among them without.

    Runs that are there already stay what they are.
    """
    said = [plain_settings(settings) for settings in cells.values()]
    chosen = [n for n in differing_settings(said) if n not in (*_ROWS, "dataset")]
    if not chosen or any(_has_validation(settings) for settings in cells.values()):
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


def _has_validation(settings: RunSettings) -> bool:
    if settings.dataset == GIVEN:  # stays as it was given
        return True
    return bool(describe(**settings.images).validation_examples)
