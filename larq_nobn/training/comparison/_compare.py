"""A grid of runs, trained and put side by side."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..._checks import check_bounds, check_path
from ...data import GIVEN, describe
from ..folder import kept_settings
from ..settings import RunSettings, words
from ._cells import Watch, is_over, outcomes_of
from ._groups import differing, differing_settings
from ._outcomes import plain_settings
from ._report import Comparison

_log = logging.getLogger("larq_nobn")
# What a table has a row for; among other settings that differ, the best is shown.
_ROWS = ("normalization", "recipe", "batch_size")


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
        if values is not None and (not values or len(set(values)) < len(values)):
            raise ValueError(
                f"{name}={list(values)} is empty or holds something twice. Give each "
                "value once."
            )
    cells = {}
    lists: Any = [values or [None] for values in axes.values()]
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
) -> Comparison:
    """Trains every cell of a grid and puts the results side by side.

    Each cell is a run folder in `output`. One that is finished is not trained again
    and one that was stopped goes on, so that the same call goes on after any stop. A
    run whose loss does not stay finite, or whose process is killed, is noted as failed,
    to be tried again by the next call, and the others are trained. What cannot go on is
    refused before the first training. Several processes, on several machines that see
    the folder, may make the same call: each takes cells that nobody has, waits for
    those of the others, and ends with all. `compare.json` holds all that
    `Comparison.to_dict` returns, `compare.png` the curves if matplotlib is there.

    Arguments:
        cells: Settings by name, as `grid` returns them.
        output: The folder.
        watch: Gives, from the name and the settings of each cell in turn, a Keras
            callback that watches its training if there is one.
        jobs: How many cells to train at a time, each in a process of its own, so that
            memory does not grow from cell to cell; a script calls it under
            `if __name__ == "__main__":` then, and the callbacks are told of epochs, and
            now and then of a batch, without a model. None: one after the other, in this
            process.
        trust: Whether code from the files of `init` and of a teacher may run, as in
            `open_model`. For files of your own.

    Where other settings compete, such as learning rates, and there is no validation
    split, a tenth of the training images is held out to choose by.

    Returns:
        The comparison, by normalization, recipe and batch size.

    Raises:
        FileExistsError: If the folder of a cell holds something else.
        NotADirectoryError: If `output` is a file.
        TypeError: If `jobs` is not a whole number.
        ValueError: If there are no cells, `jobs` is below 1, or the folder of a cell
            holds a run of other settings.

    Example:
        ```python
        cells = nobn.training.grid(
            ["none", "nobn"], dataset="digits", width=8, blocks=(1, 1), epochs=1
        )
        print(nobn.training.compare(cells, "runs/digits"))
        ```
    """
    folder = Path(check_path("output", output))
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(
            f"{folder} is a file, but a comparison needs a folder. Choose another "
            "output."
        )
    if jobs is not None:
        check_bounds("jobs", jobs)
    cells = _choosing_on_validation(cells, folder)
    for name, settings in cells.items():
        is_over(settings, folder / name)
    outcomes = outcomes_of(cells, folder, watch, jobs, trust)
    folder.mkdir(parents=True, exist_ok=True)  # where all failed there is none
    found = differing(outcomes)
    by = [name for name in _ROWS if name in found] or [_ROWS[0]]
    comparison = Comparison(outcomes, by)
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
