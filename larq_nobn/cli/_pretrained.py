"""`larq-nobn models`."""

from __future__ import annotations

import dataclasses

import click
from rich.table import Table

from ._arguments import Command
from ._console import percent, show
from ._outputs import json_option
from ._package import models as networks


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
