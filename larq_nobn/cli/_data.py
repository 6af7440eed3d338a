"""`larq-nobn data`."""

from __future__ import annotations

import click

from .. import data as datasets
from ._console import say
from ._models import data_dir_option


@click.command()
@click.argument("name", type=click.Choice(datasets.NAMES))
@click.option(
    "--from",
    "source",
    type=click.Path(),
    help="A file or folder that you already have, instead of a download.",
)
@data_dir_option
def data(name: str, source: str | None, data_dir: str | None) -> None:
    """Prepares a data set, once, for training and evaluation.

    digits needs no preparation. cifar10 is downloaded, or taken from --from, checked,
    and written where TensorFlow Datasets finds it.

    \b
    Example: larq-nobn data cifar10
             larq-nobn data cifar10 --from cifar-10-binary.tar.gz
    """
    say(str(datasets.prepare(name, source, data_dir, progress=say)))
