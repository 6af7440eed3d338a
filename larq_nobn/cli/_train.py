"""`larq-nobn train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .._names import CACHES, STRATEGIES
from . import _arguments, _few_images
from ._console import initial_weights_shown, pairs, percent, print_table, say
from ._errors import RUN
from ._package import data, training

# What a run without a validation split says of itself.
_OF_TEST = "of test images: no validation split (hold one out by --validation 0.1)"


@click.command(cls=_arguments.Grouped)
@_arguments.training_options(_arguments.recipe_option, _arguments.config_option)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the run: a new or empty one, or one to resume.",
)
@click.option(
    "--resume", is_flag=True, help="Resume the run in --output if it is unfinished."
)
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="none",
    help="mirrored: all GPUs here; multi_worker: all machines in TF_CONFIG.",
)
@click.option(
    "--wait",
    type=float,
    default=600.0,
    metavar="SECONDS",
    help="How long a worker of multi_worker waits for the others at the start.",
)
@click.option(
    "--checkpoint-steps",
    type=int,
    show_default="every ten minutes",
    help="Steps between checkpoints within an epoch.",
)
@click.option(
    "--cache",
    type=click.Choice(CACHES),
    default="auto",
    show_default=True,
    help="Where decoded images of a folder or tfds:NAME are cached. auto: the first of "
    "memory, disk and none that has room.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def train(
    ctx: click.Context, output: Path, recipe: str | None, quiet: bool, **given: Any
) -> None:
    """Train a network into a run folder.

    A folder of fewer than 3,000 color images is fine-tuned from a trained network,
    unless a network, a normalization, a recipe or --init none is given.

    The run folder contains model.keras, history.csv, run.json, TensorBoard logs and
    curves.png. To resume, repeat the command with --resume.

    \b
    Example: larq-nobn train --dataset path/to/images --output runs/images
             larq-nobn train --dataset digits --width 32 --blocks 4,4 --epochs 10 \\
                 --output runs/digits
             larq-nobn train --init runs/a --recipe fine_tune --dataset digits \\
                 --output runs/b
    """
    chosen = {name: given.pop(name) for name in _arguments.SETTINGS if name in given}
    decided = _arguments.given_by_user(ctx)
    nones = ctx.meta.get(_arguments.NONES, set()) - decided
    for name in {"model", "normalization"} - decided:
        del chosen[name]  # left out, they follow from the recipe and from --init
    which = {name: chosen[name] for name in data.WHICH}
    if few := _few_images.fine_tuned(chosen["dataset"], decided, **which):
        recipe, chosen["init"] = "fine_tune", _few_images.START
        if not quiet:
            say(few)
    elif chosen["init"] == _few_images.SCRATCH:
        chosen["init"] = None
    settings = training.RunSettings.from_recipe(
        recipe,
        **{n: each for n, each in chosen.items() if each is not None or n in nones},
    )
    from ._progress import training_progress

    ctx.meta[RUN] = output
    if quiet:
        training.train(settings, output, False, **given)
        return
    with training_progress(settings) as bar, initial_weights_shown():
        run = training.train(settings, output, bar, **given)
    modules = "".join(
        f" --import {name}" for name in ctx.meta.get(_arguments.MODULES, ())
    )
    print_table(pairs(f"Run {output}", _rows(run.record, output, modules)))
    accuracy = run.record["metrics"]["test_accuracy"]
    classes = run.model.output_shape[-1]
    if failed := _few_images.verdict(accuracy, classes, settings.init is not None):
        say(failed)


def _rows(record: Mapping[str, Any], output: Path, modules: str) -> dict[str, object]:
    metrics = record["metrics"]
    error = metrics.get("test_calibration_error")
    of_test = record["history_split"] == "test"
    epochs = len(record["seconds_per_epoch"])
    kept = record.get("kept_epoch", epochs)
    chosen = not kept == epochs == record["settings"]["epochs"]
    return {
        **({"saved weights": f"of epoch {kept}; {epochs} trained"} if chosen else {}),
        "test accuracy": percent(metrics["test_accuracy"]),
        "test loss": f"{metrics['test_loss']:.4f}",
        **({"calibration error": f"{error:.4f}"} if error is not None else {}),
        "parameters": f"{record['parameters']:,}",
        "seconds of the last epoch": f"{record['seconds_per_epoch'][-1]:.1f}",
        **({"history": _OF_TEST} if of_test else {}),
        "next": f"larq-nobn convert {output} model.tflite{modules}",
    }
