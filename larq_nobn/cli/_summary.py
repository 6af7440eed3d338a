"""`larq-nobn summary` and `larq-nobn models`."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path

import click
from rich.table import Table

from ._arguments import Command, model_argument, trust_option
from ._console import print_table, progress, say, show
from ._models import is_lite, open_run_or_file
from ._outputs import json_option
from ._package import deploy, keras
from ._package import models as networks


@click.command(cls=Command)
@model_argument
@trust_option
def summary(model: Path, trust: bool) -> None:
    """Print the model summary and each layer's TFLite operations.

    RUN_OR_FILE is a run folder, a .keras, .h5 or packed .npz file, or the name of a
    trained network (larq-nobn models). The second table comes from a temporary
    conversion. Of a .tflite file, prints what audit does.

    \b
    Example: larq-nobn summary runs/a
             larq-nobn summary model.keras
    """
    if is_lite(model):
        show({}, None, *deploy.audit(model).tables())
        return
    network, _ = open_run_or_file(model, trust)
    networks.summary(network, print_fn=say)
    with (
        progress("converting"),
        tempfile.TemporaryDirectory() as folder,
    ):
        report = deploy.convert(network, Path(folder, "model.tflite"), verify=False)
    print_table(_outcomes(network, report))


def _outcomes(network: keras.Model, report: deploy.ConversionReport) -> Table:
    table = Table("Layer", "On device", title="Layers", title_justify="left")
    binary: list[str] = []
    if report.not_prepared is None:
        binary = deploy.binary_layers(network)
    else:
        counted = f"{report.lce_bconv2d} binary convolutions. {report.not_prepared}"
        table.add_row("in all", counted)
    for layer in network.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        left = Counter(
            {op["op"]: op["layers"].count(layer.name) for op in report.float_ops}
        )
        parts = ["binary convolution"] if layer.name in binary else []
        parts += [f"{count} {op}" for op, count in left.items() if count]
        table.add_row(layer.name, ", ".join(parts) or "nothing of its own")
    return table


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
