"""`larq-nobn evaluate`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import tensorflow as tf

from .._names import SPLITS
from .._scores import Scores
from ._arguments import (
    Command,
    data_dir_option,
    dataset_option,
    model_argument,
    trust_option,
)
from ._console import emit_json, out, pairs, percent, progress
from ._models import (
    lite_predictor,
    open_any,
    prepared_as,
    statistics_images,
    test_files,
    test_images,
)
from ._outputs import PLOT, Output, json_option
from ._package import diagnostics, keras, population, training
from .results import Seen, classes_table


@click.command(cls=Command)
@model_argument
@dataset_option
@click.option(
    "--split",
    type=click.Choice(SPLITS),
    default="test",
    show_default=True,
    help="Which images to evaluate on.",
)
@click.option(
    "--limit", type=int, show_default="all", help="Use at most this many images."
)
@click.option(
    "--samples",
    type=int,
    show_default="none",
    help="Also average this many networks sampled from a model with BernoulliSign.",
)
@click.option(
    "--plot",
    metavar="FILE.png",
    type=Output(PLOT),
    help="Plot the confusion matrix.",
)
@click.option(
    "--mistakes",
    metavar="FILE.png",
    type=Output(PLOT),
    help="Plot the misclassified images with the highest loss.",
)
@data_dir_option
@trust_option
@json_option
def evaluate(
    model: Path,
    dataset: str | None,
    split: str,
    limit: int | None,
    samples: int | None,
    plot: Path | None,
    mistakes: Path | None,
    data_dir: str | None,
    trust: bool,
    report: str | None,
) -> None:
    """Measure accuracy, loss, calibration error and the confusion matrix.

    RUN_OR_FILE is a run folder, or a .keras, .h5 or .tflite file; the last is run by
    Larq Compute Engine, image by image. The calibration error is the mean distance of
    confidence and accuracy. Of up to 12 classes there is a confusion matrix, of more
    the classes that are recognized worst; the JSON holds all.

    \b
    Example: larq-nobn evaluate runs/a
             larq-nobn evaluate model.tflite --dataset cifar10 --limit 1000
             larq-nobn evaluate runs/a --plot confusion.png --mistakes mistakes.png
             larq-nobn evaluate runs/bayesian --samples 16
    """
    seen = Seen()
    result = evaluated(model, dataset, limit, data_dir, samples, seen, trust, split)
    title = f"{model} on {result['dataset']}"
    if plot is not None:
        seen.confusion.draw(plot, title)
    if mistakes is not None:
        seen.draw_mistakes(mistakes, title)
    emit_json(result, report)
    if report != "-":
        rows = {**_rows(result), "images": f"{result['examples']:,}"}
        for name, value in _rows(result.get("sampled", {})).items():
            rows[f"{name} of {samples} samples"] = value
        out().print(pairs(title, rows))
        out().print(classes_table(seen.confusion))


def _rows(found: dict) -> dict[str, str]:
    """What is measured, in words."""
    shown = {
        "accuracy": percent,
        "top5_accuracy": percent,
        "loss": "{:.4f}".format,
        "calibration_error": "{:.4f}".format,
        "spread": "{:.4f}".format,
    }
    return {
        name.replace("_", " "): say(found[name])
        for name, say in shown.items()
        if name in found
    }


def evaluated(
    model: Path,
    dataset: str | None,
    limit: int | None,
    data_dir: str | None = None,
    samples: int | None = None,
    each: Seen | None = None,
    trust: bool = False,
    split: str = "test",
) -> dict:
    """Returns what is measured of a run folder, a `.keras` or a `.tflite` file."""
    lite = model.is_file() and model.suffix == ".tflite"
    each = Seen() if each is None else each
    if lite and samples is not None:
        raise ValueError(
            f"{model} holds one binary network, from which --samples cannot draw "
            "others. Give the run folder or the .keras file that it was made of."
        )
    network, origin = open_any(model, trust)
    # A file knows the names of its classes, but not whose images it has learned.
    name = dataset or (origin.images.get("name") if origin else None)
    if name is None:
        raise ValueError(
            f"{model} does not say whose images it takes. Add --dataset, such as "
            "--dataset cifar10."
        )
    said = {"path": str(model), "dataset": name, "split": split}
    images = test_images(dataset, origin, limit, data_dir, split)
    each.info = prepared_as(dataset, origin, data_dir)
    each.files = test_files(dataset, origin, limit, data_dir, split)
    with progress() as bar:
        sampled = {}
        if samples is not None:
            drawing = bar.add_task(f"averaging {samples} networks", total=None)
            few = None
            if population.has_batch_norm(network):
                few = statistics_images(dataset, origin, data_dir)
            sampled["sampled"] = _sampled(network, images, samples, few)
            bar.remove_task(drawing)
        task = bar.add_task(f"evaluating {model}", total=None)

        def seen(count: int) -> None:
            bar.advance(task, count)

        classifier = lite_predictor(model) if lite else network
        result = training.evaluate(classifier, images, seen, each)
    return {**said, **result, **each.to_dict(), **sampled}


def _sampled(
    model: keras.Model,
    images: tf.data.Dataset,
    samples: int,
    few: tf.data.Dataset | None,
) -> dict:
    """The same of the average of binary networks, and how far apart these are.

    The spread is the standard deviation of the probability of an image's class. What is
    drawn behind batch norm needs statistics of its own, of few training images.
    """
    found = diagnostics.sampled_predictions(model, images, samples, statistics=few)
    labels = np.asarray(found.labels)
    scores = Scores()
    scores.update(found.probabilities, labels)
    spread = found.spread[np.arange(len(labels)), labels]
    result = {**scores.to_dict(), "samples": samples, "spread": float(spread.mean())}
    return {name: value for name, value in result.items() if name != "examples"}
