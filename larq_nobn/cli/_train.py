"""`larq-nobn train`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from .._names import CACHES, STRATEGIES
from ..config._settings import shown
from . import _arguments, _console
from ._exit import RUN
from ._package import data, training

# Note on the history of a run without a validation split.
_OF_TEST = "of test images: no validation split (hold one out by --validation 0.1)"
# With fewer training images than FEW, a folder is used to fine-tune START.
FEW, START = 3_000, "reactnet18-w32-cifar100"
# START was trained on 32x32 images. Its features are of no use for much smaller ones,
# and its first layers, which keep the size, are slow on much larger ones. Images whose
# sides are not in _SIDES are scaled to sides of _SMALL or _USUAL.
_SIDES, _SMALL, _USUAL = range(16, 129), 32, 96
# Width of a new network for fewer training images than the key.
_WIDTHS = {FEW: 16, 10 * FEW: 32}
# With one of these settings, the user wants another network or another training.
_DECIDES = (
    *("init", "model", "normalization", "width", "blocks", "network", "recipe"),
    *("kernel", "calibrate", "latent_scale", "latent_initializer", "teacher"),
    *("stages", "precision", "standardize_activations", "backbone_multiplier"),
)


@click.command(cls=_arguments.Grouped)
@_arguments.training_options(_arguments.recipe_option, _arguments.config_option)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    show_default="the next of runs/1, runs/2, ...",
    help="Folder of the run: a new or empty one, or one to resume.",
)
@click.option(
    "--resume",
    metavar="[RUN]",
    is_flag=False,
    flag_value="",
    help="Resume the unfinished run in this folder, or in --output, with its settings.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Show value and source of each setting that has an effect, without training.",
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
    help="With --strategy multi_worker: how long to wait for the other workers.",
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
    ctx: click.Context,
    output: Path | None,
    resume: str | None,
    recipe: str | None,
    config: dict[str, Any],
    explain: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a network and write a run folder.

    With fewer than 3,000 images in a folder, a trained network is fine-tuned, unless
    you choose a network, a normalization, a recipe or --init none.

    The run folder contains model.keras, history.csv, run.json, TensorBoard logs and
    curves.png. To resume a stopped run, --resume with its folder is enough.

    \b
    Example: larq-nobn train --dataset path/to/images --output runs/images
             larq-nobn train --dataset digits --width 32 --blocks 4,4 --epochs 10 \\
                 --output runs/digits
             larq-nobn train --resume runs/digits
             larq-nobn train --init runs/a --recipe fine_tune --dataset digits \\
                 --output runs/b
    """
    chosen = _arguments.given_settings(ctx, options)
    output = _output_of(output, resume, ctx)
    if resume is not None and not config:
        config = _arguments.settings_of_run(output)
    said, both = None, {**config, **chosen}
    if not (resume is not None and config) and both.get("init") is None:
        which = {name: both[name] for name in data.WHICH if name in both}
        decided = {*both, *(["recipe"] if recipe else [])}
        said, more = start_of(both.get("dataset", ""), decided, **which)
        recipe, chosen = more.pop("recipe", recipe), chosen | more
    settings = training.RunSettings.from_layers(recipe, config, chosen)
    _arguments.check_run(ctx, [settings])
    if explain:
        _console.print_table(_explained(settings))
        return
    if said and not quiet:
        _console.say(said)
    from ._epoch_progress import TrainingProgress

    ctx.meta[RUN] = output
    options["resume"] = resume is not None
    if quiet:
        training.train(settings, output, False, **options)
        return
    with _console.progress("training"), _console.initial_weights_shown():
        run = training.train(settings, output, TrainingProgress(settings), **options)
    imported = ctx.meta.get(_arguments.MODULES, ())
    modules = "".join(f" --import {name}" for name in imported)
    rows = _rows(run.record, output, modules)
    _console.print_table(_console.pairs(f"Run {output}", rows))


def _output_of(output: Path | None, resume: str | None, ctx: click.Context) -> Path:
    """Returns the run folder: the given one, the resumed one, or the next number."""
    if resume and output is not None and Path(resume) != output:
        raise click.UsageError(
            f"--resume {resume} and --output {output} are two folders. Choose one.", ctx
        )
    if resume:
        return Path(resume)
    if resume == "" and output is None:
        said = "--resume needs a run folder, as in --resume runs/1."
        raise click.UsageError(said, ctx)
    numbered = (Path("runs", str(number)) for number in itertools.count(1))
    return output or next(each for each in numbered if not os.path.lexists(each))


def _explained(settings: training.RunSettings) -> Table:
    table = Table("setting", "value", "from")
    for name, each in _arguments.SETTINGS.items():
        value = getattr(settings, name)
        if not each.unmet(vars(settings)):
            said = each.absent if value is None else shown(value)
            table.add_row(name, said, settings.sources[name])
    return table


def start_of(
    dataset: str, decided: Collection[str] = (), **which: Any
) -> tuple[str | None, dict[str, Any]]:
    """Returns how a training on a folder starts: a line for the user, and settings.

    With few images START is fine-tuned: gray images become three equal channels, and
    images with sides that do not suit it are scaled. Else the number of images decides
    the width of a new network. `decided` are the names of settings that the user gave.
    """
    by_user = set(_DECIDES) & {*decided}
    if not os.path.isabs(dataset) or by_user - {"init"}:
        return None, {}
    info = data.open_dataset(dataset, **which).info
    (*sides, channels), count = info.image_shape, info.train_examples
    more: dict[str, Any] = {"recipe": "fine_tune", "init": START}
    said, why = f"{count:,} training images of {info.classes} classes", None
    how = f"fine-tuning {START}"
    if "init" in decided:
        why = ""
    elif count >= FEW:
        why = f"--init {START} --recipe fine_tune starts from a trained network."
    else:
        said += " are few"
    if channels == 1 and "channels" in which and why is None:
        why = "Without --channels 1, a trained network is fine-tuned."
    elif channels == 1:
        more["channels"] = 3
        how += ", gray as three equal channels"
    if any(side not in _SIDES for side in sides):
        more["image_size"] = height, width = _size_like(sides)
        if which.get("image_size") and why is None:
            why = f"With --image-size {_USUAL}, or another size from {_SIDES[0]} to "
            why += f"{_SIDES[-1]} pixels, a trained network is fine-tuned."
        how += f", images scaled to {height}x{width} pixels"
    if why is None:
        said += f": {how}. --init {_arguments.SCRATCH} trains a new network."
        return said, more
    wide = [{"width": width} for most, width in _WIDTHS.items() if count < most]
    more = wide[0] if wide else {}
    size = f" of width {more['width']}, for so many images (--width)" if more else ""
    return f"{said}: a new network{size}. {why}".strip(), more


def _size_like(sides: Sequence[int]) -> tuple[int, int]:
    """Returns sides of the same proportions in _SIDES, or else equal ones."""
    factor = _SMALL / min(sides) if min(sides) < _SIDES[0] else _USUAL / max(sides)
    height, width = (round(side * factor) for side in sides)
    fits = height in _SIDES and width in _SIDES
    return (height, width) if fits else (_USUAL, _USUAL)


def _tested(record: Mapping[str, Any]) -> int:
    """Returns the number of test images of a run."""
    count = record["examples"]["test"]
    return min(count, record["settings"]["limit"] or count)


def _at_chance(record: Mapping[str, Any]) -> str | None:
    """Returns a remark if the accuracy may be chance; None if it is higher."""
    settings, classes = record["settings"], len(record["preprocessing"]["class_names"])
    count = _tested(record)
    if not classes or not count:
        return None
    chance = 1 / classes
    spread = 2 * (chance * (1 - chance) / count) ** 0.5  # 95 % of random guesses
    if record["metrics"]["test_accuracy"] > chance + spread:
        return None
    return (
        f"random guesses among {classes} classes reach {_console.percent(chance)}; "
        f"train longer, or below --learning-rate {settings['learning_rate']:g}"
    )


def _rows(record: Mapping[str, Any], output: Path, modules: str) -> dict[str, object]:
    metrics, epochs = record["metrics"], len(record["seconds_per_epoch"])
    error = metrics.get("test_calibration_error")
    saved = record.get("kept_epoch", epochs)
    usual = saved == epochs == record["settings"]["epochs"]
    return {
        "saved weights": None if usual else f"of epoch {saved}; {epochs} trained",
        "test accuracy": _console.percent(metrics["test_accuracy"], _tested(record)),
        "test loss": f"{metrics['test_loss']:.4f}",
        "calibration error": None if error is None else f"{error:.4f}",
        "parameters": f"{record['parameters']:,}",
        "seconds of the last epoch": f"{record['seconds_per_epoch'][-1]:.1f}",
        "history": _OF_TEST if record["history_split"] == "test" else None,
        "at chance": _at_chance(record),
        "next": f"larq-nobn convert {output} model.tflite{modules}",
    }
