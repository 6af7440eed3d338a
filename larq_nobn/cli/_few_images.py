"""Few images: which trained network a training starts from if none is chosen."""

from __future__ import annotations

from collections.abc import Collection
from math import log
from pathlib import Path

from ._package import data, training

# Folders with fewer training images than this are fine-tuned.
FEW = 3_000
START = "reactnet18-w32-cifar100"
SCRATCH = "none"  # as --init: a new network
# The network of START has 32x32 inputs; far from them its features are of no use, or
# its first layers, which do not reduce the image, take too long.
_SIDES = range(16, 129)
# Whoever chooses one of these wants another network, or another training.
_DECIDES = (
    *("init", "model", "normalization", "width", "blocks", "network", "recipe"),
    *("kernel", "calibrate", "latent_scale", "latent_initializer", "teacher"),
    *("stages", "precision", "standardize_activations", "backbone_multiplier"),
)


def is_open(dataset: str, chosen: Collection[str]) -> bool:
    """Whether images of a folder are to train whatever suits them.

    Arguments:
        dataset: The data set.
        chosen: Names of the settings that the user gave.
    """
    return Path(dataset).is_absolute() and set(_DECIDES).isdisjoint(chosen)


def are_few(info: data.DatasetInfo) -> bool:
    """Whether images are few, and such that START suits them."""
    *sides, channels = info.image_shape
    fits = channels == 3 and all(side in _SIDES for side in sides)
    return fits and 0 < info.train_examples < FEW


def explanation(info: data.DatasetInfo) -> str:
    """Returns the first line of a training that starts from a trained network."""
    return (
        f"{info.train_examples} training images of {info.classes} classes are few: "
        f"fine-tuning {START}. --init {SCRATCH} trains a new network."
    )


def verdict(accuracy: float, classes: int, tuned: bool) -> str | None:
    """Returns what to try if a network is at chance; None if it learned something.

    Arguments:
        accuracy: On test images.
        classes: Number of classes.
        tuned: Whether the network started from the weights of another one.
    """
    if classes < 2 or accuracy > 1.2 / classes:
        return None
    remedy = (
        "with more --epochs, and look at the images (larq-nobn data FOLDER --sheet "
        "sheet.png)."
        if tuned
        else f"with --init {START} --recipe fine_tune."
    )
    return (
        f"The accuracy is that of guessing among {classes} classes. Repeat the command "
        f"into another --output {remedy}"
    )


def divergence(loss: float, classes: int, settings: training.RunSettings) -> str | None:
    """Returns what to try if a loss is ten times that of guessing; None if it is not.

    Arguments:
        loss: Of the training images, over an epoch.
        classes: Number of classes, C; guessing has the loss log C.
        settings: Those of the run.
    """
    if classes < 2 or loss < 10 * log(classes):
        return None
    return (
        f"The loss {loss:.3g} is more than ten times that of guessing, "
        f"{log(classes):.2f}. If it does not fall below that in the next epochs, stop, "
        "and repeat the command into another --output with --learning-rate "
        f"{settings.learning_rate / 3:.1g}."
    )
