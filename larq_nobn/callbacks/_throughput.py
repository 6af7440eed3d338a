from __future__ import annotations

import os
from time import perf_counter
from typing import Any

import numpy as np

from .._checks import check_integer
from ._monitor import EpochMonitor


class ThroughputMonitor(EpochMonitor):
    r"""Logs the number of training images per second.

    With the batch size \(B\) and the time \(t_k\) at which step \(k\) of an epoch of
    \(K\) steps ends, the throughput of the epoch is

    \[ \frac{B\,(K - 1)}{t_K - t_1}. \]

    The first step does not count, because it compiles or waits for the first images,
    unless it is the only one. Validation and the time between two epochs do not count.
    Each epoch is measured alone, so pauses of a resumed training do not count. The
    monitor waits for the device only at the first and the last step.

    Arguments:
        batch_size: Images per step, 1 or more: of all replicas together, and of all
            micro-batches if gradients are accumulated. A smaller last batch counts as a
            full one.
        log_dir: Folder for TensorBoard; None writes to the logs only.

    Logs:
        images_per_second: Throughput of the epoch.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above.

    Example:
        ```python
        import larq_nobn as nobn
        import numpy as np
        import tensorflow as tf

        model = tf.keras.Sequential(
            [tf.keras.Input((8,)), tf.keras.layers.Dense(4)]
        )
        model.compile("sgd", "mse")
        history = model.fit(
            np.ones((16, 8)), np.ones((16, 4)), batch_size=4, epochs=3, verbose=0,
            callbacks=[nobn.callbacks.ThroughputMonitor(batch_size=4)],
        )
        print(history.history["images_per_second"])
        ```
    """

    def __init__(
        self, batch_size: int, log_dir: str | os.PathLike | None = None
    ) -> None:
        super().__init__(log_dir)
        self.batch_size = check_integer(
            "batch_size", batch_size, 1, "Give the images of one step."
        )
        # Keras would otherwise wait for the device after every step.
        self._supports_tf_logs = True
        self._marks: list[tuple[int, float]] = []  # (completed steps, time)
        self._steps = 0
        self._end: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._marks, self._steps, self._end = [(0, perf_counter())], 0, None

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Skips the steps of an epoch that an earlier process has trained."""
        if not self._steps:
            self._marks, self._steps = [(batch, self._marks[0][1])], batch

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Counts the steps; one call may be for several."""
        self._steps = batch + 1
        if len(self._marks) == 1:
            for value in (logs or {}).values():
                np.asarray(value)  # waits for the device
            self._marks.append((self._steps, perf_counter()))

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Stops the clock for validation; Keras has waited for the last step."""
        self._end = perf_counter()

    def measure(self) -> dict[str, float]:
        end = perf_counter() if self._end is None else self._end
        steps, since = max(mark for mark in self._marks if mark[0] < self._steps)
        images = self.batch_size * (self._steps - steps)
        return {"images_per_second": images / (end - since)}
