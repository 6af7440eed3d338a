"""`larq-nobn evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from .._tables import wilson_interval
from . import _arguments, _console, _inputs
from ._outputs import json_option, plot_option
from ._package import data, diagnostics, keras, population, training

_PERCENTS = ("accuracy", "top5_accuracy")
_NUMBERS = ("loss", "calibration_error", "spread")
_MISTAKES = 24  # images in a plot


@click.command(cls=_arguments.Command)
@_arguments.model_argument
@_arguments.dataset_option
@click.option(
    "--split",
    type=_arguments.SPLIT,
    default="test",
    show_default=True,
    help="Split to evaluate.",
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
@plot_option("Plot the confusion matrix.")
@plot_option("Plot the misclassified images with the highest loss.", "--mistakes")
@_arguments.preprocessing_options
@_arguments.data_dir_option
@_arguments.trust_option
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
    json_path: str | None,
) -> None:
    """Measure accuracy, loss, calibration error and the confusion matrix.

    RUN_OR_FILE is a run folder, a .keras, .h5 or packed .npz file, the name of a
    trained network (larq-nobn models), or a .tflite file, which runs in its runtime.
    The calibration error is the mean difference of confidence and accuracy. The
    confusion matrix is printed for up to 12 classes; for more, the classes with the
    lowest recall are. The JSON contains all classes.

    \b
    Example: larq-nobn evaluate runs/a
             larq-nobn evaluate model.tflite --dataset cifar10 --limit 1000
             larq-nobn evaluate runs/a --plot confusion.png --mistakes mistakes.png
             larq-nobn evaluate runs/bayesian --samples 16
    """
    lite = _inputs.is_lite(model)
    if lite and samples is not None:
        raise InvalidValue(f"--samples needs a Keras model, and {model} is none.")
    network, origin = _inputs.open_any(model, trust)
    own = _arguments.preprocessing(unused=origin is not None)
    if dataset is None and origin is not None and origin.dataset in data.NAMES:
        dataset = origin.dataset  # for a folder, metadata contain only its name
    name = dataset or (origin.dataset_arguments.get("name") if origin else None)
    if name is None:
        raise InvalidValue(
            f"{model} does not contain the name of its data set. Add --dataset, such "
            "as --dataset cifar10 or an image folder."
        )
    images = _inputs.ModelImages(dataset, origin, data_dir, model if lite else network)
    batches, info = images.batches(split, limit), images.info
    confusion = diagnostics.ConfusionMatrix(info.class_names or None)
    worst = diagnostics.Mistakes(_MISTAKES)

    def count(x: np.ndarray, labels: np.ndarray, outputs: np.ndarray) -> None:
        confusion.update(labels, outputs)
        worst.update(x, labels, outputs)
        advance(1)

    with _console.progress(f"evaluating {model}", len(batches)) as advance:
        sampled, few = dict[str, Any](), None
        if samples is not None:
            if population.has_batch_norm(network):
                few = _inputs.statistics_images(dataset, origin, data_dir, network)
            sampled = _sampled(network, batches, samples, few)
        classifier = _inputs.lite_predictor(model) if lite else network
        scores = training.evaluate(classifier, batches, count)
    names = confusion.class_names
    files = images.dataset.files(split, limit, images.like) or ()
    drawn = f"{model.absolute().name} on {Path(name).name}"  # without paths
    if plot is not None:
        confusion.draw(plot, drawn)
    if mistakes is not None:
        shown = [Path(file).name for file in files]
        worst.draw(mistakes, names, info.mean, info.std, drawn, shown)
    source, examples = "the options" if own else info.name, int(scores["examples"])
    result: dict[str, Any] = {"path": str(model), "dataset": name, "split": split}
    result |= {"mean_and_std_of": source, **scores, **confusion.to_dict()}
    result["accuracy_interval"] = wilson_interval(scores["accuracy"], examples)
    result["mistakes"] = [
        {
            "image": files[mistake.index] if files else mistake.index,
            "label": names[mistake.label],
            "predicted": names[mistake.predicted],
            "probability": mistake.probability,
        }
        for mistake in worst.found
    ]
    holdout, size = images.dataset.holdout, images.size
    held = "" if holdout in (None, 1) else f" (--holdout {holdout:g})"
    rows = _rows(result) | {
        f"{split} images": f"{examples:,}{held}",
        "mean and std of": source,
        "image size": f"{size[0]}x{size[1]}, of the model" if size else None,
        "confusion matrix": plot,
        "mistakes": mistakes,
    }
    if sampled:
        result["sampled"] = sampled
        averaged = _rows(sampled).items()
        rows |= {f"{row} of {samples} samples": value for row, value in averaged}
    tables = _console.pairs(f"{model} on {name}", rows), confusion.table()
    _console.show(result, json_path, *tables)


def _rows(scores: dict[str, Any]) -> dict[str, object]:
    count = scores.get("examples")
    percents = {n: _console.percent(scores[n], count) for n in _PERCENTS if n in scores}
    numbers = {n: f"{scores[n]:.4f}" for n in _NUMBERS if n in scores}
    return {n.replace("_", " "): said for n, said in {**percents, **numbers}.items()}


def _sampled(
    model: keras.Model,
    images: tf.data.Dataset,
    samples: int,
    few: tf.data.Dataset | None,
) -> dict[str, Any]:
    """Evaluates the averaged outputs of sampled binary networks, and their spread.

    The spread is the standard deviation of the probability of an image's class. For
    each sampled network, batch-norm statistics are re-estimated on `few` images.
    """
    drawn = diagnostics.sampled_predictions(model, images, samples, statistics=few)
    labels = np.asarray(drawn.labels)
    scores = population.Scores()
    scores.update(drawn.probabilities, labels)
    result = {**scores.to_dict(), "samples": samples}
    del result["examples"]
    result["spread"] = float(drawn.spread[np.arange(len(labels)), labels].mean())
    return result
