"""`larq-nobn compare` and `larq-nobn report`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from . import _arguments
from ._console import say, show
from ._exit import RUN
from ._outputs import json_option, plot_option
from ._package import training

# Settings that compare takes lists of, with their defaults.
LISTS = {"normalization": "batch_norm,none,nobn", "label": None, "recipe": None}
LISTS |= {"batch_size": None, "learning_rate": None, "seed": "0"}


@click.command(cls=_arguments.Grouped)
@_arguments.training_options(
    *map(_arguments.list_option, LISTS, LISTS.values()), but=LISTS
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the runs, compare.json and compare.png.",
)
@click.option(
    "--jobs",
    type=int,
    default=1,
    show_default=True,
    help="Runs at a time, each in a process of its own.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Address of a Dask scheduler whose workers train the runs, as in "
    "tcp://192.168.0.2:8786.",
)
@json_option
@click.pass_context
def compare(
    context: click.Context,
    output: Path,
    jobs: int,
    scheduler: str | None,
    json_path: str | None,
    trust: bool,
    **options: Any,
) -> None:
    """Train a grid of networks and compare them.

    Every combination of normalization, batch size and seed is trained by larq-nobn
    train, in a run folder of its own. Runs that differ only in the seed form one row of
    the table, which shows the best learning rate. To resume, repeat the command:
    finished runs are not trained again. If a run fails, the table names it and the exit
    code is 1. Workers of a Dask cluster (--scheduler) need the files of this command.

    \b
    Example: larq-nobn compare --normalization batch_norm,none,nobn --seed 0,1 \\
                 --dataset digits --width 16 --blocks 2,2 --output runs/digits
             larq-nobn compare --learning-rate 0.001,0.003 --validation 0.1 \\
                 --dataset cifar10 --width 16 --epochs 5 --output runs/rates
    """
    lists = {f"{name}s": options.pop(f"{name}s") for name in LISTS}
    chosen = _arguments.given_settings(context, options)
    by_user = {*chosen, *_arguments.given_by_user(context)}
    if chosen.get("init") and by_user.isdisjoint(("model", "normalizations")):
        lists["normalizations"] = None  # that of the network of --init
    chosen |= {name: values for name, values in lists.items() if values is not None}
    from ._epoch_progress import epoch_line

    cells, imports = training.grid(**chosen), context.meta.get(_arguments.MODULES, ())
    _arguments.check_run(context, cells.values())
    context.meta[RUN] = None
    to_stderr = json_path == "-"
    finished = sum((output / name / "run.json").is_file() for name in cells)
    say(f"Runs: {len(cells)}; finished: {finished}.", to_stderr)

    def progress(place: str, row: Mapping[str, float]) -> None:
        said = epoch_line(cells[Path(place).parts[0]], int(row["epoch"]), row)
        say(f"{place}, {said}", to_stderr)

    how = jobs, trust, scheduler, imports
    comparison = training.compare(cells, output, progress, *how)
    show(comparison.to_dict(), json_path, comparison.table())
    if json_path != "-":
        say(f"All numbers: {output / 'compare.json'}")
        if (output / "compare.png").exists():
            say(f"Curves: {output / 'compare.png'}")
    failed = [run for run in comparison.outcomes if run.failure is not None]
    for run in failed:
        say(f"Failed: {run.folder}. {run.failure}", stderr=True)
    if failed:
        context.exit(1)


@click.command(cls=_arguments.Command)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=_arguments.several(str),
    show_default="all settings that differ, without the seed",
    help="Settings to compare by, such as normalization,batch_size; of runs that "
    "differ in others, only the best is shown.",
)
@json_option
@plot_option(
    "Plot the curves, with a band from the lowest to the highest seed.", "--png"
)
def report(
    runs: tuple[Path, ...],
    by: list[str] | None,
    json_path: str | None,
    png: Path | None,
) -> None:
    """Print the comparison of finished runs.

    Runs that differ only in the seed form one row. Folders without a finished run are
    listed and skipped.

    \b
    Example: larq-nobn report runs/* --png runs.png
             larq-nobn report runs/* --by normalization --json runs.json
    """
    comparison = training.report(runs, by)
    if png is not None:
        comparison.draw(png)
    show(comparison.to_dict(), json_path, comparison.table())
