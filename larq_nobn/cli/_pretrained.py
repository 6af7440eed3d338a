"""`larq-nobn models`."""

from __future__ import annotations

import dataclasses

import click

from ._arguments import Command
from ._console import show
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
    show([dataclasses.asdict(row) for row in rows], report, rows.table())
