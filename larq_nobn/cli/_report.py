"""`larq-nobn report`."""

from __future__ import annotations

from pathlib import Path

import click

from ._arguments import Command, Several
from ._console import show
from ._outputs import json_option, plot_option
from ._package import training


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=Several(str),
    show_default="all settings that differ, but the seed",
    help="Settings to compare by, as in normalization,batch_size; of runs that differ "
    "in others, the best is shown.",
)
@json_option
@plot_option(
    "Plot the curves, with a band from the lowest to the highest seed.", "--png"
)
def report(
    runs: tuple[Path, ...], by: list[str] | None, report: str | None, png: Path | None
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
    show(comparison.to_dict(), report, comparison.table())
