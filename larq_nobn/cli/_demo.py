"""`larq-nobn demo`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from .._errors import InvalidValue
from .._names import check_dataset
from ._arguments import Command, Word
from ._console import pairs, percent, progress, say, stdout_console
from ._deploy import converted
from ._errors import RUN
from ._models import Images, lite_predictor, origin_of
from ._package import data, training

# Networks shaped for the images: two stages take 8x8 digits to 4x4, four would leave
# single pixels. The CIFAR-10 one sees part of the images, to end within minutes.
DEMOS: dict[str, dict[str, Any]] = {
    "digits": dict(width=32, blocks=(4, 4), epochs=20, batch_size=64),
    "cifar10": dict(width=16, epochs=5, batch_size=64, limit=10_000),
}
# Of images in a folder: the more there are, the fewer epochs.
_IMAGES_SEEN, _LIMIT, _EPOCHS = 50_000, 10_000, (5, 50)
_SMALL = 16
# Each is run by the phone's interpreter, one at a time.
EVALUATED_IMAGES = 500


def demo_images(word: str) -> str:
    """Returns a data set that has a demo, or the absolute path of a folder."""
    if word in DEMOS:
        return word
    if not Path(word).is_dir():
        raise InvalidValue(word)
    return check_dataset("dataset", Path(word))


@click.command(cls=Command)
@click.option(
    "--dataset",
    type=Word(
        "|".join([*DEMOS, "FOLDER"]),
        demo_images,
        f"is not one of {', '.join(map(repr, DEMOS))}, nor a folder",
    ),
    default="digits",
    help="digits (8x8 pixels, up to two minutes), cifar10 (some minutes), or an image "
    "folder.",
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
    show_default="20 for digits, 5 for cifar10, 5 to 50 for a folder",
    help="Passes over the training images.",
)
@click.pass_context
def demo(
    ctx: click.Context, dataset: str, output: Path | None, epochs: int | None
) -> None:
    """Train, convert and verify a small network in a few minutes.

    Trains a ReActNet without batch normalization, converts it to a .tflite file with
    binary convolutions, and compares the outputs of both on up to 256 test images and
    their accuracy on up to 500.

    \b
    Example: larq-nobn demo
             larq-nobn demo --dataset cifar10
             larq-nobn demo --dataset path/to/images
    """
    folder = output or Path("demo") / Path(dataset).name
    run_folder, file = folder / "run", folder / "model.tflite"
    if folder.is_dir() and any(folder.iterdir()) and not run_folder.is_dir():
        raise FileExistsError(
            f"{folder} is not empty and contains no demo. Choose another --output."
        )
    known = DEMOS[dataset] if dataset in DEMOS else _settings_for(dataset)
    chosen = known | ({"epochs": epochs} if epochs is not None else {})
    settings = training.RunSettings.from_recipe(dataset=dataset, **chosen)
    if dataset in DEMOS:
        say(str(data.prepare(dataset)))
    say(
        f"Training {settings.model} without batch normalization on {dataset}, "
        f"{settings.epochs} epochs."
    )
    from ._progress import training_progress

    ctx.meta[RUN] = None
    with training_progress(settings) as bar:
        run = training.train(settings, run_folder, bar, resume=True)
    report = converted(run.model, file, None, origin_of(run))
    report.to_json(folder / "report.json")
    stdout_console().print(
        pairs(f"Demo {folder}", _results(run, file, report.to_dict()))
    )


def _settings_for(folder: str) -> dict[str, Any]:
    """What suits a new image folder."""
    info = data.open_dataset(folder).info
    least, most = _EPOCHS
    return dict(
        width=16,
        blocks=(4, 4) if min(info.image_shape[:2]) < _SMALL else None,
        epochs=max(least, min(most, _IMAGES_SEEN // min(info.train_examples, _LIMIT))),
        batch_size=64,
        limit=_LIMIT,
    )


def _results(run: training.Run, file: Path, report: dict) -> dict[str, object]:
    images = Images(None, origin_of(run)).batches(limit=EVALUATED_IMAGES)
    with progress() as bar:
        task = bar.add_task("evaluating both", total=2 * len(images))
        seen = partial(bar.advance, task)
        in_keras = training.evaluate(run.model, images, lambda _: seen())
        in_file = training.evaluate(lite_predictor(file), images, lambda _: seen())
    verified = report["verify"]
    history = ", ".join(percent(row["val_accuracy"]) for row in run.history)
    return {
        f"{run.record['history_split']} accuracy per epoch": history,
        "size": f"{report['size_bytes'] / 1000:,.0f} kB",
        "binary convolutions": (
            f"{report['lce_bconv2d']} of {report['binary_layers']} binary layers"
        ),
        "verified test images": verified["examples"],
        "equal to Keras": percent(verified["exact_share"]),
        "different due to rounding": verified["explained"],
        "unexplained": verified["unexplained"],
        "same class as Keras": percent(verified["top1_agreement"]),
        f"Keras accuracy, {in_keras['examples']} test images": percent(
            in_keras["accuracy"]
        ),
        ".tflite accuracy, the same images": percent(in_file["accuracy"]),
        "file": file,
        "labels and pre-processing": f"{file}.json",
        "report": file.with_name("report.json"),
    }
