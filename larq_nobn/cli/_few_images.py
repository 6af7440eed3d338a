"""Few images: which trained network a training starts from if none is chosen."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ._package import data

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


def fine_tuned(dataset: str, chosen: Collection[str] = (), **images: Any) -> str | None:
    """Returns the first line of a training that starts from START; None for another.

    Arguments:
        dataset: The data set: it has to be a folder.
        chosen: Names of the settings that the user gave.
        images: Arguments of `data.open_dataset`.
    """
    if not Path(dataset).is_absolute() or not set(_DECIDES).isdisjoint(chosen):
        return None
    info = data.open_dataset(dataset, **images).info
    *sides, channels = info.image_shape
    fits = channels == 3 and all(side in _SIDES for side in sides)
    if not fits or not 0 < info.train_examples < FEW:
        return None
    return (
        f"{info.train_examples} training images of {info.classes} classes are few: "
        f"fine-tuning {START}. --init {SCRATCH} trains a new network."
    )


def verdict(accuracy: float, classes: int, tuned: bool) -> str | None:
    """Returns what to try if a network is at chance; None if it learned something."""
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
