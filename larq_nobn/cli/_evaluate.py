"""`larq-nobn evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from .. import training
from ._console import emit_json, out, pairs, percent, progress
from ._models import (
    data_dir_option,
    dataset_option,
    lite_predictor,
    model_argument,
    open_run_or_file,
    test_images,
)


@click.command()
@model_argument
@dataset_option
@click.option("--limit", type=int, show_default="all", help="Use only so many images.")
@data_dir_option
@click.option(
    "--json", "report", help="Write the result to this file; - prints it instead."
)
def evaluate(
    model: Path,
    dataset: str | None,
    limit: int | None,
    data_dir: str | None,
    report: str | None,
) -> None:
    """Prints accuracy and loss on test images.

    RUN_OR_FILE is a run folder, a .keras file, or a .tflite file; the last is run by
    Larq Compute Engine, image by image.

    \b
    Example: larq-nobn evaluate runs/a
             larq-nobn evaluate model.tflite --dataset cifar10 --limit 1000
    """
    result = evaluated(model, dataset, limit, data_dir)
    emit_json(result, report)
    if report != "-":
        rows = {
            "accuracy": percent(result["accuracy"]),
            "loss": f"{result['loss']:.4f}",
            "images": f"{result['examples']:,}",
        }
        out().print(pairs(f"{model} on {result['dataset']}", rows))


def evaluated(
    model: Path, dataset: str | None, limit: int | None, data_dir: str | None = None
) -> dict:
    """Returns loss and accuracy of a run folder, a `.keras` or a `.tflite` file."""
    lite = model.is_file() and model.suffix == ".tflite"
    network, trained_on = (None, None) if lite else open_run_or_file(model)
    name = dataset or trained_on
    if name is None:
        raise ValueError(
            f"{model} does not say whose images it takes. Add --dataset, such as "
            "--dataset cifar10."
        )
    images = test_images(name, limit, data_dir)
    with progress() as bar:
        task = bar.add_task(f"evaluating {model}", total=None)

        def seen(count: int) -> None:
            bar.advance(task, count)

        if lite:
            result = training.score(lite_predictor(model), images, seen)
        else:
            result = training.evaluate(network, images, seen)
    return {"path": str(model), "dataset": name, **result}
