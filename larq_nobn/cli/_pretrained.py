"""`larq-nobn models` and `larq-nobn pack`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
from rich.table import Table

from ._arguments import Command
from ._console import percent, say, show
from ._outputs import PACKED, Output, json_option
from ._package import models as networks
from ._package import training


@click.command(cls=Command)
@json_option
def models(report: str | None) -> None:
    """List the trained networks that come with the package.

    Their names stand for a model in every command that opens one, in train --init, and
    in Python for weights=.

    \b
    Example: larq-nobn models
             larq-nobn models --json models.json
    """
    rows = networks.pretrained()
    titles = ("Name", "Data set", "Input", "Top-1", "Size", "Binary MACs", "Float MACs")
    table = Table(*titles, title="Trained networks", title_justify="left")
    for row in rows:
        table.add_row(
            row.name,
            row.dataset,
            "x".join(map(str, row.input_shape)),
            percent(row.accuracy),
            f"{row.size_bytes / 1000:,.0f} kB",
            f"{row.binary_macs / 1e6:,.1f} M",
            f"{row.float_macs / 1e6:,.2f} M",
        )
    show([dataclasses.asdict(row) for row in rows], report, table)


@click.command(cls=Command)
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("output", metavar="OUT.npz", type=Output(PACKED))
@click.option("--name", show_default="that of the file", help="Name of the network.")
@click.option("--log", help="Path or address of the run's log, stored in the file.")
def pack(run: Path, output: Path, name: str | None, log: str | None) -> None:
    """Pack the network of a finished run, one bit for each binary weight.

    The file is opened by every command that takes a model, and in Python by weights=.
    Class names, preprocessing, settings and accuracy go with it.

    \b
    Example: larq-nobn pack runs/a a.npz
             larq-nobn pack runs/a a.npz --name reactnet18-w16-cats
    """
    row = training.pack(run, output, name, log)
    say(f"{output}: {row.name}, {row.size_bytes / 1000:,.0f} kB")
