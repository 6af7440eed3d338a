"""`larq-nobn evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import tensorflow as tf

from .._errors import InvalidValue, MissingPackage
from .._figures import drawable, new_figure, shortened
from .._files import replacing
from .._names import SPLITS
from . import _arguments
from ._console import pairs, percent, progress, show
from ._models import Images, is_lite, lite_predictor, open_any, statistics_images
from ._outputs import json_option, plot_option
from ._package import data, diagnostics, keras, population, training

# The widest matrix that a JSON holds, and the mistakes of a plot.
_WRITTEN, _MISTAKES = 200, 24
# Up to so many classes the squares of a plot have room for a number each, and its
# sides for names, of so many characters.
_NUMBERED, _NAMED, _LONGEST = 20, 60, 20


@click.command(cls=_arguments.Command)
@_arguments.model_argument
@_arguments.dataset_option
@click.option(
    "--split",
    type=click.Choice(SPLITS),
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
    report: str | None,
) -> None:
    """Measure accuracy, loss, calibration error and the confusion matrix.

    RUN_OR_FILE is a run folder, a .keras, .h5 or packed .npz file, the name of a
    trained network (larq-nobn models), or a .tflite file, which Larq Compute Engine
    runs. The calibration error is the mean difference of confidence and accuracy. Up to
    12 classes are printed as a confusion matrix, of more those with the lowest recall;
    the JSON contains all.

    \b
    Example: larq-nobn evaluate runs/a
             larq-nobn evaluate model.tflite --dataset cifar10 --limit 1000
             larq-nobn evaluate runs/a --plot confusion.png --mistakes mistakes.png
             larq-nobn evaluate runs/bayesian --samples 16
    """
    lite = is_lite(model)
    if lite and samples is not None:
        raise InvalidValue(
            f"{model} contains one binary network, from which --samples cannot draw "
            "others. Give the run folder or the .keras file that it was made of."
        )
    network, origin = open_any(model, trust)
    # A file knows the names of its classes, but not whose images it has learned.
    name = dataset or (origin.images.get("name") if origin else None)
    if name is None:
        raise InvalidValue(
            f"{model} does not say whose images it takes. Add --dataset, such as "
            "--dataset cifar10."
        )
    images = Images(dataset, origin, data_dir)
    batches, files = images.batches(split, limit), images.files(split, limit)
    seen, sampled = _Seen(images.info, files), {}
    with progress() as bar:
        if samples is not None:
            drawing = bar.add_task(f"averaging {samples} networks", total=None)
            few = None
            if population.has_batch_norm(network):
                few = statistics_images(dataset, origin, data_dir)
            sampled = _sampled(network, batches, samples, few)
            bar.remove_task(drawing)
        task = bar.add_task(f"evaluating {model}", total=len(batches))

        def advance(count: int) -> None:
            bar.advance(task)

        classifier = lite_predictor(model) if lite else network
        found = training.evaluate(classifier, batches, advance, seen)
    title = f"{model} on {name}"
    if plot is not None:
        _plot_confusion(seen.confusion, plot, title)
    if mistakes is not None:
        mean, std = images.info.mean, images.info.std
        seen.mistakes.draw(mistakes, seen.confusion.class_names, mean, std, title)
    result = {"path": str(model), "dataset": name, "split": split}
    result["mean_and_std_of"] = images.info.name
    result |= {**found, **seen.to_dict(), **({"sampled": sampled} if sampled else {})}
    rows = {**_rows(result), f"{split} images": f"{found['examples']:,}"}
    rows["mean and std of"] = images.info.name
    for row, value in _rows(sampled).items():
        rows[f"{row} of {samples} samples"] = value
    show(result, report, pairs(title, rows), seen.confusion.table())


class _Seen:
    """The test images class by class, and the worst mistakes."""

    def __init__(self, info: data.DatasetInfo, files: Sequence[str] | None) -> None:
        self._names, self._files = info.class_names, files
        self.confusion = diagnostics.ConfusionMatrix()
        self.mistakes = diagnostics.Mistakes(_MISTAKES)

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, outputs: np.ndarray
    ) -> None:
        """Looks at a batch."""
        if not len(self.confusion.counts) and self._names:
            if len(self._names) != outputs.shape[1]:
                raise InvalidValue(
                    f"The model has {outputs.shape[1]} classes, whose names are not "
                    f"known, and the images are of {len(self._names)}. Name the run "
                    "folder, which contains the names, or images of all classes."
                )
            self.confusion = diagnostics.ConfusionMatrix(self._names)
        self.confusion.update(labels, outputs)
        self.mistakes.update(images, labels, outputs)

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON says of it; the matrix where it is not huge."""
        found, names = self.confusion.to_dict(), self.confusion.class_names
        if len(found["classes"]) > _WRITTEN:
            del found["confusion"]
        found["mistakes"] = [
            {
                "image": each.index if self._files is None else self._files[each.index],
                "label": names[each.label],
                "predicted": names[each.predicted],
                "probability": each.probability,
            }
            for each in self.mistakes.found
        ]
        return found


def _plot_confusion(
    found: diagnostics.ConfusionMatrix, target: Path, title: str
) -> None:
    """Plots the matrix in percent of each row, a row per class."""
    try:
        from sklearn.metrics import ConfusionMatrixDisplay
    except ImportError as error:
        raise MissingPackage(
            f"{target.name} needs scikit-learn ({error}). Install it with: "
            "pip install 'larq-nobn[plots]'"
        ) from error
    classes, named = len(found.counts), len(found.counts) <= _NAMED
    side = min(4 + 0.35 * classes, 12)
    figure = new_figure(target, (side + 0.8, side))
    names = [shortened(name, _LONGEST) for name in found.class_names]
    shares = found.counts / np.maximum(found.counts.sum(1, keepdims=True), 1)
    display = ConfusionMatrixDisplay(
        100 * shares, display_labels=names if named else None
    ).plot(
        ax=figure.subplots(),
        include_values=classes <= _NUMBERED,
        values_format=".0f",
        cmap="Blues",
        xticks_rotation="vertical",
        im_kw={"vmin": 0, "vmax": 100},
    )
    display.ax_.set(title=drawable(title), ylabel="true class", xlabel="predicted")
    if not named:
        display.ax_.set(xticks=[], yticks=[])
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=120)


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


def _sampled(
    model: keras.Model,
    images: tf.data.Dataset,
    samples: int,
    few: tf.data.Dataset | None,
) -> dict:
    """The same of the average of binary networks, and how far apart these are.

    The spread is the standard deviation of the probability of an image's class. Batch
    norms of sampled networks take statistics of their own, of few training images.
    """
    found = diagnostics.sampled_predictions(model, images, samples, statistics=few)
    labels = np.asarray(found.labels)
    scores = population.Scores()
    scores.update(found.probabilities, labels)
    spread = found.spread[np.arange(len(labels)), labels]
    result = {**scores.to_dict(), "samples": samples, "spread": float(spread.mean())}
    return {name: value for name, value in result.items() if name != "examples"}
