"""The command `larq-nobn` with all of its commands."""

from __future__ import annotations

import click

from .._version import __version__
from ._benchmark import benchmark
from ._compare import compare, report
from ._console import quiet
from ._data import data
from ._demo import demo
from ._deploy import audit, convert, models, summary
from ._evaluate import evaluate
from ._exit import Commands
from ._predict import predict
from ._surgery import fold, import_, remove
from ._train import train


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "max_content_width": 100,
    },
)
@click.version_option(__version__, package_name="larq_nobn")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Binary neural networks without batch normalization: training to TFLite.

    \b
    Start here:       larq-nobn demo
    Then your own:    larq-nobn data cifar10
                      larq-nobn train --dataset cifar10 --width 16 --output runs/a
                      larq-nobn evaluate runs/a
                      larq-nobn predict runs/a cat.jpg
                      larq-nobn convert runs/a model.tflite
                      larq-nobn audit model.tflite
                      larq-nobn benchmark model.tflite
    Compare:          larq-nobn compare --dataset cifar10 --width 16 --output runs/grid
    Fold batch norm:  larq-nobn fold runs/a folded.keras
    From PyTorch:     larq-nobn import best.pth.tar reactnet.keras
    Trained networks: larq-nobn models
    """
    quiet()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (
    *(demo, train, evaluate, predict, compare, report, fold, remove),
    *(convert, audit, benchmark, summary, data, import_, models),
):
    main.add_command(command)
