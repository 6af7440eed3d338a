"""`larq-nobn data`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from ._arguments import DATASET, Command, check_unused, data_dir_option
from ._console import pairs, progress, say, show
from ._outputs import json_option, plot_option

if TYPE_CHECKING:
    from ..data import Overview

# Longest list of files that is printed; --json contains all files.
_NAMED = 10


@click.command(cls=Command, limited=True)
@click.argument("name", metavar="NAME|FOLDER|tfds:NAME", type=DATASET)
@click.option(
    "--from",
    "source",
    type=click.Path(),
    metavar="FOLDER",
    help="Folder with the archives of a data set, to use instead of a download.",
)
@data_dir_option
@click.option(
    "--holdout",
    type=float,
    default=0.1,
    help="Test fraction of an image folder without a test folder.",
)
@plot_option("Plot some images of each class.", "--sheet", plots=False)
@json_option
@click.pass_context
def data(
    ctx: click.Context,
    name: str,
    source: str | None,
    data_dir: str | None,
    holdout: float,
    sheet: Path | None,
    json_path: str | None,
) -> None:
    """Download a data set or inspect an image folder.

    digits needs no download. TensorFlow Datasets downloads other data sets, or reads
    them from the archives in --from. In an image folder, every file is opened; the
    images of each class are counted, and damaged, empty and duplicate files listed. The
    folder is not changed.

    \b
    Example: larq-nobn data cifar10
             larq-nobn data imagenet --from archives/
             larq-nobn data pictures/ --sheet classes.png
    """
    from .. import data as datasets

    if not Path(name).is_absolute():
        unused = ("holdout", "sheet", "json_path")
        check_unused(ctx, unused, f"for {name}, which is not an image folder")
        if name == "digits":
            check_unused(ctx, ("source",), "for digits, which needs no download")
        say(str(datasets.prepare(name, source, data_dir)))
        return
    check_unused(ctx, ("source", "data_dir"), f"for {name}, which is a folder")
    with progress(f"opening {name}"):
        overview = datasets.inspect_folder(name, holdout=holdout)
    if sheet is not None:
        overview.draw(sheet)
    title = f"{overview.root}, classes: {len(overview.classes)}"
    table = Table("Class", title=title, title_justify="left")
    sums: Counter[str] = Counter()
    for counts in overview.classes.values():
        sums.update(counts)
    for split in sums:
        table.add_column(split, justify="right")
    for label, counts in {**overview.classes, "all": sums}.items():
        table.add_row(label, *(f"{counts[split]:,}" for split in sums))
    rows = {**_rows(overview), "plot of each class": sheet}
    show(overview.to_dict(), json_path, table, pairs("Images", rows))


def _rows(overview: Overview) -> dict[str, object]:
    sizes = [
        f"{least:,} to {most:,}, median {middle:,}"
        for least, middle, most in overview.sizes or ()
    ]
    return {
        "divided": "by folders" if overview.divided else "by the content of the files",
        "remarks": "\n".join(overview.remarks),
        "gray": overview.grey or None,
        "unreadable": _listed(f"{p}: {why}" for p, why in overview.unreadable.items()),
        "empty classes": _listed(overview.empty),
        "equal, in several splits": _listed(map(" = ".join, overview.leaks)),
        "equal, in several classes": _listed(map(" = ".join, overview.twins)),
        "equal, in one class": _listed(map(" = ".join, overview.copies)),
        "other files": ", ".join(f"{n} {name}" for name, n in overview.others.items()),
        **dict(zip(("heights", "widths"), sizes, strict=False)),
    }


def _listed(found: Iterable[str]) -> str:
    lines = [*found]
    more = [f"and {len(lines) - _NAMED:,} more"] if len(lines) > _NAMED else []
    return "\n".join([f"{len(lines):,}:", *lines[:_NAMED], *more] if lines else [])
