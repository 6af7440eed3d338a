"""What a run watches beside loss and accuracy."""

from __future__ import annotations

from pathlib import Path

from ..._keras import keras
from ...callbacks import (
    BinaryWeightMonitor,
    GradientClippingMonitor,
    MemoryMonitor,
    ThroughputMonitor,
)
from ...callbacks._clipping import clipping_in
from ...callbacks._weights import binary_weights
from ..settings import Recipe


def monitors(
    recipe: Recipe, model: keras.Model, log_dir: Path | None
) -> list[keras.callbacks.Callback]:
    """The monitors that apply to a model, for `fit`.

    Each adds its values to the logs of an epoch, so they stand before what writes those
    down. They remember nothing of earlier epochs but the weights: a resumed run counts
    flips from the restored ones, as it would have without the interruption.

    Arguments:
        recipe: How the model is trained.
        model: Compiled; the one that is fitted.
        log_dir: Folder for TensorBoard. None on all workers but the first, which have
            the same monitors, since some add up what all replicas have counted.
    """
    # First, for the clock to stop before the others look at the weights.
    found: list[keras.callbacks.Callback] = [
        ThroughputMonitor(recipe.batch_size, log_dir)
    ]
    if binary_weights(model):
        found.append(BinaryWeightMonitor(log_dir=log_dir))
    if list(clipping_in(model.optimizer)):
        found.append(GradientClippingMonitor(log_dir))
    return [*found, MemoryMonitor(log_dir)]
