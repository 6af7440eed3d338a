"""`larq-nobn demo`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from .._errors import InvalidValue
from .._files import check_folder
from .._names import check_dataset
from .._run_files import LOCK
from ._arguments import Command, Word
from ._console import out, pairs, percent, progress, say
from ._deploy import converted
from ._models import Images, lite_predictor, origin_of
from ._package import data, training

# Networks shaped for the images: two stages take 8x8 digits to 4x4, four would leave
# single pixels. The CIFAR-10 one sees part of the images, to end within minutes.
DEMOS: dict[str, dict[str, Any]] = {
    "digits": dict(width=32, blocks=(4, 4), epochs=20, batch_size=64),
    "cifar10": dict(width=16, epochs=5, batch_size=64, limit=10_000),
}
# Of images in a folder: the more there are, the fewer epochs.
_IMAGES_SEEN, _AT_MOST, _EPOCHS = 50_000, 10_000, (5, 50)
_SMALL = 16
# Each is run by the phone's interpreter, one at a time.
EVALUATED_IMAGES = 500
_FILES = ("model.tflite", "model.tflite.json", "report.json")
_OURS = {"run", "run.new", LOCK, *_FILES}


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
    help="Folder for the results; an earlier demo in it is replaced.",
)
@click.option(
    "--epochs",
    type=int,
    show_default="20 for digits, 5 for cifar10, 5 to 50 for a folder",
    help="Passes over the training images.",
)
def demo(dataset: str, output: Path | None, epochs: int | None) -> None:
    """Train, convert and verify a small network in a few minutes.

    Trains a ReActNet without batch normalization, converts it to a .tflite file with
    binary convolutions, and compares the outputs of both on up to 256 test images and
    their accuracy on up to 500.

    \b
    Example: larq-nobn demo
             larq-nobn demo --dataset cifar10
             larq-nobn demo --dataset path/to/images
    """
    settings = _settings_for(dataset)
    if epochs is not None:
        settings = replace(settings, epochs=epochs)
    folder = output or Path("demo") / Path(dataset).name
    _check_foreign(folder, settings)
    if dataset in DEMOS:
        say(str(data.prepare(dataset, progress=say)))
    with _alone_in(folder):
        run = _trained(settings, folder)
        file = folder / "model.tflite"
        report = converted(run.model, file, None, origin_of(run))
        report.to_json(folder / "report.json")
        out().print(pairs(f"Demo {folder}", _results(run, file, report.to_dict())))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keeps other demos out of a folder, which is gone again if it stays empty."""
    check_folder(folder, "a run")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with training.folder.locked(folder):
            yield
    finally:
        with suppress(OSError):  # from the first on that contains something
            for each in made:
                each.rmdir()


def _settings_for(dataset: str) -> training.RunSettings:
    """Those of a known data set, or what suits a new image folder."""
    if dataset in DEMOS:
        known = DEMOS[dataset]
        return training.RunSettings.from_recipe(dataset=dataset, **known)
    info = data.open_dataset(dataset).info
    seen = min(info.train_examples, _AT_MOST)
    least, most = _EPOCHS
    return training.RunSettings.from_recipe(
        dataset=dataset,
        width=16,
        blocks=(4, 4) if min(info.image_shape[:2]) < _SMALL else None,
        epochs=max(least, min(most, _IMAGES_SEEN // seen)),
        batch_size=64,
        limit=_AT_MOST,
    )


def _check_foreign(folder: Path, settings: training.RunSettings) -> None:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    foreign = found - _OURS
    # The run of a demo has the settings of one, with any number of epochs.
    record: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        record = training.load_record(folder / "run")[0]["settings"]
    demos = map(training.folder.plain, (settings, *map(_settings_for, DEMOS)))
    epochs = record.get("epochs")
    if not any(record == {**each, "epochs": epochs} for each in demos):
        foreign |= found & {"run", *_FILES}
    if foreign:
        raise FileExistsError(
            f"{folder} contains {min(foreign)}, which no demo put there. "
            "Choose another --output."
        )


def _trained(settings: training.RunSettings, folder: Path) -> training.Run:
    """Trains beside an earlier run, which is replaced only by a finished one."""
    fresh, final = folder / "run.new", folder / "run"
    shutil.rmtree(fresh, ignore_errors=True)  # of a demo that was killed
    say(
        f"Training {settings.model} without batch normalization on {settings.dataset}, "
        f"{settings.epochs} epochs."
    )
    from ._progress import training_progress

    try:
        with training_progress(settings) as bar:
            run = training.train(settings, fresh, bar)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    for old in _FILES:
        (folder / old).unlink(missing_ok=True)
    shutil.rmtree(final, ignore_errors=True)
    fresh.rename(final)
    return replace(run, folder=final)


def _per_epoch(run: training.Run) -> dict[str, str]:
    """The history, of the validation split of a folder that has one."""
    found = ", ".join(percent(row["val_accuracy"]) for row in run.history)
    return {f"{run.record['history_split']} accuracy per epoch": found}


def _results(run: training.Run, file: Path, report: dict) -> dict[str, object]:
    images = Images(None, origin_of(run)).batches(limit=EVALUATED_IMAGES)
    with progress() as bar:
        task = bar.add_task("evaluating both", total=2 * len(images))
        seen = partial(bar.advance, task)
        in_keras = training.evaluate(run.model, images, lambda _: seen())
        in_file = training.evaluate(lite_predictor(file), images, lambda _: seen())
    verified = report["verify"]
    return {
        **_per_epoch(run),
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
