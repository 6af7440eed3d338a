from __future__ import annotations

import math
import os

from ..quantizers import ReCU
from ._scheduler import QuantizerScheduler


class TauScheduler(QuantizerScheduler):
    r"""Schedules the quantile τ of every `ReCU` of a model by epoch.

    At the start of epoch \(e = 0, 1, \dots\) out of \(E\),

    \[ \tau(e) = A\, \mathrm{e}^{e/E} + B, \qquad
       A = \frac{\text{end} - \text{start}}{\mathrm{e} - 1}, \qquad
       B = \text{start} - A, \]

    so τ would reach `end` one epoch after the last; later epochs use `end`. At first
    many weights are clamped, in the end hardly any. The callback finds all `ReCU`
    objects, also in nested models, in wrapper layers and around other quantizers. The
    value depends only on the number of the epoch: `fit(initial_epoch=k)` resumes at
    τ(k), and files contain τ as a weight.

    Arguments:
        start: τ of the first epoch, in (0.5, 1).
        end: τ that the last epochs approach, in (start, 1).
        epochs: E, a positive number; None uses the `epochs` of `fit`.
        log_dir: Folder for TensorBoard; None writes to the logs only.

    Logs:
        tau: The τ of the epoch.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above; at the start of
            training, for a model without `ReCU` or without weights.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn
        import numpy as np
        import tensorflow as tf

        model = tf.keras.Sequential([
            tf.keras.Input((8,)),
            lq.layers.QuantDense(4, kernel_quantizer=nobn.quantizers.ReCU()),
        ])
        model.compile("sgd", "mse")
        history = model.fit(
            np.ones((16, 8)), np.ones((16, 4)), epochs=3, verbose=0,
            callbacks=[nobn.callbacks.TauScheduler()],
        )
        print(history.history["tau"])  # from 0.85 towards 0.99
        ```

    References:
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369.

    Differences from the paper:
        The published code uses 2.71828 for e in A, which changes τ by less than 1e-6.
        The paper trains for 600 epochs.
    """

    kind = ReCU
    weight = "tau"
    interval = "(0.5, 1)"
    advice = "Start at 0.85 and end at 0.99."
    remedy = "kernel_quantizer=ReCU()"

    def __init__(
        self,
        start: float = 0.85,
        end: float = 0.99,
        epochs: int | None = None,
        log_dir: str | os.PathLike | None = None,
    ) -> None:
        super().__init__(start, end, epochs, log_dir)

    def value_at(self, progress: float, place: int) -> float:
        slope = (self.end - self.start) / (math.e - 1)
        return self.start + slope * (math.exp(min(progress, 1)) - 1)
