from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from .._checks import check_integer, check_number
from .._keras import keras
from ..quantizers import ReCU
from ._monitor import EpochMonitor


def tau_at(epoch: int, epochs: int, start: float, end: float) -> float:
    """The schedule: `start` at epoch 0, `end` from epoch number `epochs` on."""
    slope = (end - start) / (math.e - 1)
    return start + slope * (math.exp(min(epoch / epochs, 1)) - 1)


class TauScheduler(EpochMonitor):
    r"""Moves the quantile τ of every `ReCU` of a model from epoch to epoch.

    At the begin of epoch \(e = 0, 1, \dots\) out of \(E\),

    \[ \tau(e) = A\, \mathrm{e}^{e/E} + B, \qquad
       A = \frac{\text{end} - \text{start}}{\mathrm{e} - 1}, \qquad
       B = \text{start} - A, \]

    so that τ starts at `start` and would reach `end` one epoch after the last; later
    epochs stay at `end`. Few weights are free at first, nearly all of them in the end.
    All `ReCU` objects are found, in models inside the model, in wrapper layers and
    around other quantizers too. The value depends on the number of the epoch alone:
    `fit(initial_epoch=k)` goes on at τ(k), and files hold τ as a weight.

    Arguments:
        start: τ of the first epoch, in (0.5, 1).
        end: τ that the last epochs approach, in (start, 1).
        epochs: E, a positive number; None takes the `epochs` of `fit`.
        log_dir: Folder for TensorBoard; None writes to the logs only.

    Logs:
        tau: The τ that the epoch was trained with.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above; at the begin of
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
        The published code writes e as 2.71828 in A, which moves τ by less than 1e-6.
        The paper trains for 600 epochs.
    """

    def __init__(
        self,
        start: float = 0.85,
        end: float = 0.99,
        epochs: int | None = None,
        log_dir: str | os.PathLike | None = None,
    ) -> None:
        super().__init__(log_dir)
        advice = "Start at 0.85 and end at 0.99."
        self.start = check_number("start", start, "(0.5, 1)", advice)
        self.end = check_number("end", end, "(0.5, 1)", advice)
        if self.start >= self.end:
            raise ValueError(
                f"start={start} is not below end={end}, but tau must grow. {advice}"
            )
        self.epochs = (
            None
            if epochs is None
            else check_integer("epochs", epochs, 1, "Use None for those of fit.")
        )
        self._quantizers: list[Any] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Finds the quantizers."""
        name = self.model.name
        found = [each for each in self.model.submodules if isinstance(each, ReCU)]
        if not found:
            raise ValueError(
                f"The model {name} has no ReCU whose tau could move. Give a layer "
                "kernel_quantizer=ReCU(), or leave TauScheduler out."
            )
        if not all(each.built for each in found):
            raise ValueError(
                f"The model {name} has no weights yet. Build it or call it on data "
                "before training with TauScheduler."
            )
        self._quantizers = found

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets τ."""
        epochs = self.params["epochs"] if self.epochs is None else self.epochs
        for quantizer in self._quantizers:
            quantizer.tau.assign(tau_at(epoch, epochs, self.start, self.end))

    def measure(self) -> dict[str, float]:
        """Returns the τ of the epoch."""
        taus = [keras.backend.get_value(each.tau) for each in self._quantizers]
        return {"tau": float(np.mean(taus))}
