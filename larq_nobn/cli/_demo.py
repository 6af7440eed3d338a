"""`larq-nobn demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import _arguments, _console, _deploy, _exit, _inputs, _train
from ._package import data, training

# Two stages reduce 8x8 digits to 4x4; four would leave a single pixel. CIFAR-10 uses
# only some of its images, so that the demo ends within minutes.
DEMOS: dict[str, dict[str, Any]] = {
    "digits": dict(width=32, blocks=(4, 4), epochs=20, batch_size=64),
    "cifar10": dict(width=16, epochs=5, batch_size=64, limit=10_000),
}
# Number of test images: the file runs on one image at a time.
_EVALUATED = 500


@click.command(cls=_arguments.Command)
@click.option(
    "--dataset",
    type=_arguments.DATASET,
    default="digits",
    help="digits (8x8 pixels, about a minute), cifar10 (some minutes), another data "
    "set, or an image folder.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    show_default="demo/DATASET",
    help="Folder for the results; a demo in it is resumed.",
)
@click.option(
    "--epochs",
    type=int,
    show_default="20 for digits, 5 for cifar10, else 5 to 50",
    help="Passes over the training images.",
)
@click.pass_context
def demo(
    ctx: click.Context, dataset: str, output: Path | None, epochs: int | None
) -> None:
    """Train, convert and verify a small network in a few minutes.

    Trains a ReActNet without batch normalization, converts it to a .tflite file with
    binary convolutions, and compares the two: their outputs on up to 256 test images,
    their accuracy on up to 500.

    \b
    Example: larq-nobn demo
             larq-nobn demo --dataset cifar10
             larq-nobn demo --dataset path/to/images
    """
    folder = output or Path("demo") / Path(dataset).name
    file, trained = folder / "model.tflite", folder / "run"
    if folder.is_dir() and any(folder.iterdir()) and not trained.is_dir():
        raise FileExistsError(
            f"{folder} is not empty, and contains no demo. Choose another --output."
        )
    if not Path(dataset).is_absolute():
        _console.say(str(data.prepare(dataset)))
    chosen = {"dataset": dataset, **(DEMOS.get(dataset) or _settings_for(dataset))}
    if epochs is not None:
        chosen["epochs"] = epochs
    settings = training.RunSettings.from_recipe(chosen.pop("recipe", None), **chosen)
    from ._epoch_progress import TrainingProgress

    ctx.meta[_exit.RUN] = None
    with _console.progress("training"), _console.initial_weights_shown():
        run = training.train(settings, trained, TrainingProgress(settings), resume=True)
    origin = _inputs.Origin(run.dataset, run.record["settings"])
    report = _deploy.converted(run.model, file, None, origin)
    report.to_json(folder / "report.json")
    images = _inputs.ModelImages(None, origin).batches(limit=_EVALUATED)
    models = {"Keras": run.model, ".tflite": _inputs.lite_predictor(file)}
    rows: dict[str, object] = {}
    for name, model in models.items():
        with _console.progress(f"evaluating {name}"):
            scores = training.evaluate(model, images)
        accuracy, count = scores["accuracy"], int(scores["examples"])
        rows[f"{name} accuracy"] = _console.percent(accuracy, count)
    _console.print_table(report.table())
    rows |= {"run": trained, "file": file, "report": folder / "report.json"}
    _console.print_table(_console.pairs(f"Demo {folder}", rows))
    _console.say(f"{file} classifies {_console.percent(accuracy)} correctly.")


def _settings_for(dataset: str) -> dict[str, Any]:
    """Returns settings for other images: with more images, fewer epochs."""
    said, start = _train.start_of(dataset)
    if said is not None and "init" in start:
        _console.say(said)
        return {**start, "epochs": 10}
    info = data.open_dataset(dataset).info
    return dict(
        width=16,
        blocks=(4, 4) if min(info.image_shape[:2]) < 16 else None,
        epochs=max(5, min(50, 50_000 // min(info.train_examples, 10_000))),
        batch_size=64,
        limit=10_000,
    )
