"""`larq-nobn data`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from ._arguments import DATASET, Command, check_unused, data_dir_option
from ._console import pairs, progress, say, show
from ._outputs import json_option, plot_option
from ._package import data as datasets
from ._package import folder

# So many of a kind are named; --json has all.
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
    help="Fraction for testing, of an image folder without a test folder.",
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
    report: str | None,
) -> None:
    """Download a data set or inspect an image folder.

    digits needs no download. Others are downloaded by TensorFlow Datasets, or read from
    the archives in --from. In a folder of images every file is opened:
    classes are counted; damaged, empty and duplicate files are listed. The folder is
    not changed.

    \b
    Example: larq-nobn data cifar10
             larq-nobn data imagenet --from archives/
             larq-nobn data pictures/ --sheet classes.png
    """
    if not Path(name).is_absolute():
        unused = ("holdout", "sheet", "report")
        check_unused(ctx, unused, f"for {name}, which is not an image folder")
        if name == "digits":
            check_unused(ctx, ("source",), "for digits, which needs no download")
        say(str(datasets.prepare(name, source, data_dir)))
        return
    check_unused(ctx, ("source", "data_dir"), f"for {name}, which is a folder")
    with progress(f"opening {name}"):
        overview = folder.inspect_folder(name, holdout=holdout)
    if sheet is not None:
        overview.draw(sheet)
    table = Table(
        "Class",
        title=f"{overview.root}, classes: {len(overview.classes)}",
        title_justify="left",
    )
    splits = list(next(iter(overview.classes.values()), {}))
    for split in splits:
        table.add_column(split, justify="right")
    for name, counts in overview.classes.items():
        table.add_row(name, *(f"{counts[split]:,}" for split in splits))
    sums = [sum(c[split] for c in overview.classes.values()) for split in splits]
    table.add_section()
    table.add_row("all", *(f"{total:,}" for total in sums))
    rows = _rows(overview) | (
        {} if sheet is None else {"some of each class": str(sheet)}
    )
    show(overview.to_dict(), report, table, pairs("Images", rows))


def _rows(overview: folder.Overview) -> dict[str, str]:
    """The findings in words; those of which there are none are left out."""
    rows = {
        "divided": "by folders" if overview.divided else "by the content of the files",
        "remarks": "\n".join(overview.remarks),
        "gray": f"{overview.grey:,}" if overview.grey else "",
        "unreadable": _listed(
            [f"{p}: {why}" for p, why in overview.unreadable.items()]
        ),
        "empty classes": _listed(overview.empty),
        "equal, in both parts": _listed([" = ".join(g) for g in overview.leaks]),
        "equal, in several classes": _listed([" = ".join(g) for g in overview.twins]),
        "equal, in one class": _listed([" = ".join(g) for g in overview.copies]),
        "other files": ", ".join(
            f"{n:,} {name}" for name, n in overview.others.items()
        ),
    }
    if overview.sizes is not None:
        for name, (least, middle, most) in zip(
            ("heights", "widths"), overview.sizes, strict=True
        ):
            several = f"{least:,} to {most:,}, half of them up to {middle:,}"
            rows[name] = several if least < most else f"{most:,}"
    return {name: text for name, text in rows.items() if text}


def _listed(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - _NAMED:,} more"] if len(lines) > _NAMED else []
    count = [f"{len(lines):,}:"] if lines else []
    return "\n".join([*count, *lines[:_NAMED], *more])
