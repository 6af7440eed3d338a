from __future__ import annotations

import os
from typing import Any

from .._keras import keras
from ..quantizers import ProgressiveSign
from ._monitor import named_layers
from ._scheduler import QuantizerScheduler


def fraction_at(progress: float, place: int, count: int) -> float:
    """The schedule: layer `place` of `count` grows from 0 to 1 in its own interval."""
    return min(max(progress * count - place, 0.0), 1.0)


class ProgressiveBinarization(QuantizerScheduler):
    r"""Schedules the fraction p of every `ProgressiveSign`, layer by layer.

    Of the L quantizers of a model, in order from the input on, quantizer
    \(l = 0, \dots, L - 1\) has at time \(t\), in epochs, which is set in every step,

    \[ p_l(t) = \operatorname{clip}\Big( L \frac{t}{E} - l, 0, 1 \Big), \]

    so that they grow from 0 to 1 one after the other, each in an L-th part of these
    epochs, and the network is binary from epoch E on. The value depends on epoch and
    step alone: `fit(initial_epoch=k)` resumes at \(p_l(k)\), and files contain p as a
    weight. Where the number of steps is not known, as in the first epoch on a
    generator, p is set once per epoch.

    Arguments:
        epochs: E, a positive number; None takes half of the `epochs` of `fit`.
        log_dir: Folder for TensorBoard; None writes to the logs only.

    Logs:
        fraction: The mean p over the quantizers in the last step of the epoch.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above; at the start of
            training, for a model without such quantizers or without weights.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import numpy as np
        import tensorflow as tf

        model = tf.keras.Sequential([
            tf.keras.Input((8,)),
            lq.layers.QuantDense(
                4, input_quantizer=nobn.quantizers.ProgressiveSign(),
                kernel_quantizer="scaled_std_sign",
            ),
        ])
        model.compile("sgd", "mse")
        history = model.fit(
            np.ones((16, 8)), np.ones((16, 4)), epochs=4, verbose=0,
            callbacks=[nobn.callbacks.ProgressiveBinarization()],
        )
        print(history.history["fraction"])  # from 0 to 1
        ```

    References:
        - E. Gibson Smith, B. Islam, "Layerwise Progressive Freezing: A Training
          Scaffold for Depth-Scalable Binary Networks", 2026, arXiv:2606.27759 (StoMPP).

    Differences from the paper:
        Written from the abstract and a summary, which say that the fraction grows layer
        by layer from the input on. The published schedule could not be read: that p
        grows linearly, in intervals of equal length and over half of the training, is a
        choice of this package.
    """

    weight = "fraction"
    interval = "[0, 1]"
    advice = "It goes from 0 to 1."
    missing = (
        "ProgressiveSign whose fraction could move. Give a layer "
        "input_quantizer=ProgressiveSign()"
    )

    def __init__(
        self, epochs: int | None = None, log_dir: str | os.PathLike | None = None
    ) -> None:
        super().__init__(0.0, 1.0, epochs, log_dir)
        self._epoch = 0

    @staticmethod
    def owns(module: Any) -> bool:
        """Whether this is a `ProgressiveSign`."""
        return isinstance(module, ProgressiveSign)

    @classmethod
    def quantizers_of(cls, model: keras.Model) -> list[Any]:
        """Those of a model from its input on, each once."""
        parts = (
            part
            for _, layer in named_layers(model)
            for part in (layer, *layer.submodules)
        )
        return list({id(part): part for part in parts if cls.owns(part)}.values())

    def value_at(self, epoch: float, epochs: int, place: int) -> float:
        """The fraction at a time, of the quantizer at a place."""
        over = epochs / 2 if self.epochs is None else epochs
        return fraction_at(epoch / over, place, len(self._quantizers))

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets the fractions, and notes the epoch."""
        self._epoch = epoch
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Sets the fractions of a step."""
        if steps := self.params.get("steps"):
            self._move(self._epoch + batch / steps)
