from __future__ import annotations

import os

from ..quantizers import ProgressiveSign
from ._scheduler import QuantizerScheduler


class ProgressiveBinarization(QuantizerScheduler):
    r"""Schedules the fraction p of every `ProgressiveSign`, layer by layer.

    For the L quantizers of a model, in order from the input, quantizer
    \(l = 0, \dots, L - 1\) has at time \(t\), in epochs and updated in every step,

    \[ p_l(t) = \operatorname{clip}\Big( L \frac{t}{E} - l, 0, 1 \Big), \]

    so they grow from 0 to 1 one after the other, each within E/L epochs, and the
    network is binary from epoch E. The value depends only on epoch and step:
    `fit(initial_epoch=k)` resumes at \(p_l(k)\), and files contain p as a weight. If
    the number of steps is unknown, as in the first epoch on a generator, p is set once
    per epoch.

    Arguments:
        epochs: E, a positive number; None uses half of the `epochs` of `fit`.
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
        This follows the abstract and a summary, by which the fraction grows layer by
        layer from the input. The published schedule could not be read: linear growth,
        in intervals of equal length and over half of the training, is a choice of this
        package.
    """

    kind = ProgressiveSign
    weight = "fraction"
    interval = "[0, 1]"
    advice = "It goes from 0 to 1."
    remedy = "input_quantizer=ProgressiveSign()"
    default_fraction = 0.5

    def __init__(
        self, epochs: int | None = None, log_dir: str | os.PathLike | None = None
    ) -> None:
        super().__init__(0.0, 1.0, epochs, log_dir)

    def value_at(self, progress: float, place: int) -> float:
        return min(max(progress * len(self._quantizers) - place, 0.0), 1.0)

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        if steps := self.params.get("steps"):
            self._set_weights(self._epoch + batch / steps)
