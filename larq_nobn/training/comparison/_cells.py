"""The cells of a grid: each trained by whoever takes it first, here or elsewhere."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from ..._keras import keras
from ..folder import RunInUse, is_finished, refuse_if_in_use, refuse_what_is_there
from ..run import NonFiniteLoss, train
from ..settings import RunSettings
from ._outcomes import Outcome, plain_settings
from ._processes import in_processes

_log = logging.getLogger("larq_nobn")
Watch = Callable[[str, RunSettings], keras.callbacks.Callback]
# How often to look whether others are done.
SECONDS = 5.0


def outcomes_of(
    cells: Mapping[str, RunSettings],
    folder: Path,
    watch: Watch | None,
    jobs: int | None,
    trust: bool = False,
) -> list[Outcome]:
    """Returns what becomes of all cells, in their order.

    Cells that other processes train, on this machine or on others, are waited for: if
    such a process is stopped, its cell goes on here.

    Arguments:
        cells: Settings by name.
        folder: Where their run folders are.
        watch: Gives a callback for each cell.
        jobs: How many to train at a time, each in a process of its own; None for one
            after the other in this one.
        trust: Whether code from model files that a cell starts from may run.
    """
    found: dict[str, Outcome] = {}
    said = False
    while len(found) < len(cells):
        waiting = [name for name in cells if name not in found]
        free = [name for name in waiting if _is_free(folder / name)]
        before = len(found)
        for name, outcome in _attempts(cells, free, folder, watch, jobs, trust):
            if outcome is not None:
                found[name] = outcome
        if len(found) == before:
            if not said:
                _log.warning(
                    "Other processes train %s: waiting for them.", ", ".join(waiting)
                )
            said = True
            time.sleep(SECONDS)
    return [found[name] for name in cells]


def is_over(settings: RunSettings, folder: Path) -> bool:
    """Whether a cell is there already; refuses what cannot go on."""
    said = plain_settings(settings)
    if is_finished(folder, said):
        return True
    refuse_what_is_there(folder, said, resume=True)
    return False


def outcome_of(
    settings: RunSettings,
    folder: Path,
    progress: keras.callbacks.Callback | None,
    trust: bool = False,
) -> Outcome | None:
    """Trains a cell, if it is not over; None if another process does."""
    try:
        if not is_over(settings, folder):
            train(settings, folder, progress, resume=True, trust=trust)
    except RunInUse:
        return None
    except NonFiniteLoss as error:
        if progress is not None:
            progress.on_train_end()  # which Keras leaves out then
        said = plain_settings(settings)
        return Outcome(os.fspath(folder), said, failure=str(error))
    return Outcome.read(folder)


def _is_free(folder: Path) -> bool:
    try:
        refuse_if_in_use(folder)
    except RunInUse:
        return False
    return True


def _attempts(
    cells: Mapping[str, RunSettings],
    names: Sequence[str],
    folder: Path,
    watch: Watch | None,
    jobs: int | None,
    trust: bool,
) -> Iterator[tuple[str, Outcome | None]]:
    """Takes cell after cell; None for what others have taken meanwhile."""
    begun = []
    for name in names:
        if jobs is not None and not is_over(cells[name], folder / name):
            begun.append(name)
            continue
        progress = watch and watch(name, cells[name])
        yield name, outcome_of(cells[name], folder / name, progress, trust)
    if jobs is not None:
        tasks = {name: (cells[name], folder / name) for name in begun}
        yield from in_processes(partial(outcome_of, trust=trust), tasks, watch, jobs)
