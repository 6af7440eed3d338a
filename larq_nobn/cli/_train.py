"""`larq-nobn train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .. import data, models, training
from ._console import out, pairs, percent, training_progress
from ._models import data_dir_option

DEFAULTS = training.RunSettings()


class Blocks(click.ParamType):
    """Whole numbers between commas."""

    name = "N,N,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Returns `(4, 4)` for `"4,4"`."""
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not of the form 4,4,4,4.", param, ctx)


def _setting(
    name: str, text: str, kind: Any = None, absent: str | None = None
) -> Callable[[Any], Any]:
    """An option whose default is that of the setting; `absent` puts None in words."""
    default = getattr(DEFAULTS, name.removeprefix("--").replace("-", "_"))
    shown = absent or True
    return click.option(name, type=kind, default=default, show_default=shown, help=text)


OWN = "the network's own"


@click.command()
@_setting("--model", "The network.", click.Choice(list(models.BUILDERS)))
@_setting(
    "--normalization",
    "nobn: scaled kernels instead of a norm; none: neither; else that norm.",
    click.Choice(models.NORMALIZATIONS),
)
@_setting("--dataset", "The images; see larq-nobn data.", click.Choice(data.NAMES))
@_setting("--width", "Channels of the first stage.", int, OWN)
@_setting("--blocks", "Blocks per stage, such as 4,4,4,4.", Blocks(), OWN)
@_setting("--epochs", "Passes over the training images.")
@_setting("--batch-size", "Images per step.")
@_setting("--learning-rate", "Of Adam, at the first step; falls linearly to 0.")
@_setting("--clip-factor", "Adaptive gradient clipping; 0 turns it off.")
@_setting("--seed", "The same seed gives the same weights.")
@_setting(
    "--precision",
    "The mixed ones compute in 16 bits and keep weights in 32.",
    click.Choice(training.PRECISIONS),
)
@_setting("--limit", "Use at most so many images of each split.", int, "all")
@data_dir_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="The run folder; must be empty or new.",
)
def train(output: Path, **options: Any) -> None:
    """Trains a network and leaves a run folder.

    The folder holds model.keras, history.csv, run.json, TensorBoard logs and
    curves.png. A run that is stopped leaves nothing.

    \b
    Example: larq-nobn train --dataset digits --width 32 --blocks 4,4 --epochs 10 \\
                 --output runs/digits
    """
    settings = training.RunSettings(**options)
    with training_progress(settings.epochs) as bar:
        run = training.train(settings, output, bar)
    metrics = run.record["metrics"]
    rows = {
        "test accuracy": percent(metrics["val_accuracy"]),
        "test loss": f"{metrics['val_loss']:.4f}",
        "parameters": f"{run.record['parameters']:,}",
        "seconds per epoch": f"{run.record['seconds_per_epoch'][-1]:.1f}",
        "next": f"larq-nobn convert {output} model.tflite",
    }
    out().print(pairs(f"Run {output}", rows))
