from __future__ import annotations

import math
import os
from typing import Any

from ..quantizers import ReSTE, RSign
from ._scheduler import QuantizerScheduler


class PowerScheduler(QuantizerScheduler):
    r"""Schedules the power o of every `ReSTE` of a model by epoch.

    At the start of epoch \(e = 0, 1, \dots\) out of \(E\),

    \[ o(e) = \text{start} + (\text{end} - \text{start})
       \Big( 1 - \cos \frac{\pi e}{2 E} \Big) , \]

    so o grows slowly at first and would reach `end` one epoch after the last; later
    epochs use `end`. Gradients are stable at first, and in the end close to those of
    the sign. The callback finds all `ReSTE` objects, and all `RSign` whose estimator is
    `"reste"`, also in nested models, in wrapper layers and around other quantizers. The
    value depends only on the number of the epoch: `fit(initial_epoch=k)` resumes at
    o(k), and files contain o as a weight.

    Arguments:
        start: o of the first epoch, 1 or more.
        end: o that the last epochs approach, above `start`.
        epochs: E, a positive number; None uses the `epochs` of `fit`.
        log_dir: Folder for TensorBoard; None writes to the logs only.

    Logs:
        power: The o of the epoch.

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
            lq.layers.QuantDense(4, kernel_quantizer=nobn.quantizers.ReSTE()),
        ])
        model.compile("sgd", "mse")
        history = model.fit(
            np.ones((16, 8)), np.ones((16, 4)), epochs=3, verbose=0,
            callbacks=[nobn.callbacks.PowerScheduler()],
        )
        print(history.history["power"])  # from 1 towards 3
        ```

    References:
        - X.-M. Wu, D. Zheng, Z.-H. Liu, W.-S. Zheng, "Estimator Meets Equilibrium
          Perspective: A Rectified Straight Through Estimator for Binary Neural Networks
          Training", ICCV 2023, arXiv:2308.06689.

    Differences from the paper:
        The schedule is that of the published code, which always starts at 1. The paper
        trains CIFAR-10 for 1000 epochs.
    """

    kind = ReSTE
    weight = "power"
    interval = "[1, inf)"
    advice = "Start at 1 and end at 3."
    remedy = 'kernel_quantizer=ReSTE() or RSign(estimator="reste")'

    def __init__(
        self,
        start: float = 1.0,
        end: float = 3.0,
        epochs: int | None = None,
        log_dir: str | os.PathLike | None = None,
    ) -> None:
        super().__init__(start, end, epochs, log_dir)

    @classmethod
    def owns(cls, module: Any) -> bool:
        """Tells whether `module` is a `ReSTE`, or an `RSign` with its estimator."""
        if isinstance(module, RSign):
            return module.estimator == "reste"
        return super().owns(module)

    def value_at(self, progress: float, place: int) -> float:
        turn = math.pi / 2 * min(progress, 1)
        return self.start + (self.end - self.start) * (1 - math.cos(turn))
