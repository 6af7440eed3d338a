"""`larq-nobn report`."""

from __future__ import annotations

from pathlib import Path

import click

from .. import training
from ._console import emit_json, out
from ._options import Several


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=Several(str),
    show_default="all settings that differ, but the seed",
    help="Settings to compare by, as normalization,batch_size; of others the best.",
)
@click.option("--json", "target", help="All numbers to a file, or to stdout for -.")
@click.option(
    "--png", type=click.Path(path_type=Path), help="Curves, with bands over the seeds."
)
def report(
    runs: tuple[Path, ...], by: list[str] | None, target: str | None, png: Path | None
) -> None:
    """Puts finished runs side by side, as compare does.

    Runs that differ in nothing but the seed are taken together. What is no finished run
    among several folders is named and left out.

    \b
    Example: larq-nobn report runs/* --png runs.png
    """
    comparison = training.report(runs, by)
    emit_json(comparison.to_dict(), target)
    if png is not None:
        comparison.draw(png)
    if target != "-":
        out().print(comparison.table())
