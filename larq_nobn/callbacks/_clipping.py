from __future__ import annotations

import os
from typing import Any

import numpy as np

from .._errors import InvalidValue
from ..optimizers import AdaptiveGradientClipping
from ..optimizers._variable_names import parts_inside
from ._monitor import EpochMonitor, fractions, owners


def clipping_in(optimizer: Any) -> list[Any]:
    """Returns every `AdaptiveGradientClipping` in an optimizer, however nested."""
    parts = parts_inside(optimizer)
    return [part for part in parts if isinstance(part, AdaptiveGradientClipping)]


class GradientClippingMonitor(EpochMonitor):
    r"""Logs the fraction of units whose gradient `AdaptiveGradientClipping` clips.

    A unit, such as one output filter, is clipped at a step if its gradient is longer
    than its limit. Over the steps of an epoch and the units of a layer,

    \[ \text{clipped share} = \frac{
       \#\{(i, t): \|G_i^t\| > \text{clip\_factor}\,
       \max(\|W_i^t\|, \epsilon)\}}{\#\{(i, t)\}}. \]

    Units of variables that are excluded, that `Bop` trains or that have no gradient do
    not count; nor do steps that loss scaling skips. The monitor does not change
    training. Its counters are integers on the device, updated inside the compiled step
    and read once per epoch; no file contains them. The optimizer continues to count
    after training, so that the next `fit` with a monitor uses the compiled step again.

    Arguments:
        log_dir: Folder for TensorBoard, which also gets `clipped_share/LAYER`; None
            writes to the logs only.

    Logs:
        clipped_share: Fraction of all units; NaN if no unit counts.

    Raises:
        TypeError: If `log_dir` is not a path.
        ValueError: At the start of training, for an optimizer without
            `AdaptiveGradientClipping` or a model without weights.

    Example:
        ```python
        import larq_nobn as nobn
        import numpy as np
        import tensorflow as tf

        model = tf.keras.Sequential(
            [tf.keras.Input((8,)), tf.keras.layers.Dense(4)]
        )
        model.compile(nobn.optimizers.AdaptiveGradientClipping("sgd"), "mse")
        history = model.fit(
            np.ones((16, 8)), np.ones((16, 4)), epochs=3, verbose=0,
            callbacks=[nobn.callbacks.GradientClippingMonitor()],
        )
        print(history.history["clipped_share"])
        ```

    References:
        - A. Brock, S. De, S. L. Smith, K. Simonyan, "High-Performance Large-Scale Image
          Recognition Without Normalization", 2021, arXiv:2102.06171.

    Differences from the paper:
        The paper does not count the clipped units.
    """

    def __init__(self, log_dir: str | os.PathLike | None = None) -> None:
        super().__init__(log_dir)
        self._layers: list[str] = []
        self._counts: list[Any] = []
        self._before: Any = 0

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Makes the optimizer count clipped units, if it does not yet."""
        model = self.model
        optimizers = clipping_in(model.optimizer)
        if not optimizers:
            raise InvalidValue(
                f"The optimizer {type(model.optimizer).__name__} clips no units, so "
                "there is nothing to count. Compile the model with "
                "AdaptiveGradientClipping, or leave GradientClippingMonitor out."
            )
        variables = model.trainable_variables
        self._layers = owners(model, variables)
        before = [optimizer._counts for optimizer in optimizers]
        with model.distribute_strategy.scope():
            self._counts = [optimizer._count_for(variables) for optimizer in optimizers]
        if any(a is not b for a, b in zip(self._counts, before, strict=True)):
            model.make_train_function(force=True)  # compiles a step that counts

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._before = self._totals()

    def measure(self) -> dict[str, float]:
        clipped, seen = self._totals() - self._before
        return fractions("clipped_share", self._layers, clipped, seen)

    def get_state(self) -> list[list[int]]:
        """Returns the counts of the epoch so far, for a checkpoint within an epoch."""
        return (self._totals() - self._before).tolist()

    def set_state(self, state: list[list[int]]) -> None:
        """Restores what `get_state` returned; call it after `on_epoch_begin`."""
        self._before = self._totals() - np.array(state)

    def _totals(self) -> np.ndarray:
        return np.sum([counts.totals() for counts in self._counts], axis=0)
