"""How good the outputs of a classifier are."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._calibration_error import binned
from ._errors import InvalidValue
from ._probabilities import as_logits, log_partition

# As many as are usual for the expected calibration error.
_BINS = 15


class Scores:
    """Loss, accuracy and calibration error, of outputs that are given by batches."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._confidence: list[np.ndarray] = []
        self._right: list[np.ndarray] = []

    @np.errstate(invalid="ignore")  # a loss that is not finite is one
    def update(self, outputs: Any, labels: np.ndarray) -> np.ndarray:
        """Counts a batch in, and returns its logits in float64.

        Arguments:
            outputs: Logits or probabilities, (N, classes).
            labels: The classes, (N,).

        Raises:
            ValueError: If the outputs do not fit the labels.
        """
        try:
            outputs = np.asarray(outputs, np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidValue(
                "The model gives several outputs or named ones, but a classifier gives "
                "one number for each class. Choose one of these."
            ) from error
        if outputs.ndim != 2 or labels.max() >= outputs.shape[1]:
            raise InvalidValue(
                f"The model's output has shape {outputs.shape}, but labels go up to "
                f"{labels.max()}. Choose the data set that it was trained on."
            )
        logits = as_logits(outputs)
        partition = log_partition(logits)
        self._loss += float(np.sum(partition - logits[np.arange(len(labels)), labels]))
        self._confidence.append(np.exp(logits.max(1) - partition))
        self._right.append(logits.argmax(1) == labels)
        return logits

    @np.errstate(invalid="ignore")
    def to_dict(self) -> dict[str, float]:
        """Returns `loss`, `accuracy`, `calibration_error` and `examples`.

        Raises:
            ValueError: If there are no examples.
        """
        if not self._right:
            raise InvalidValue("There are no images to evaluate on. Give at least one.")
        right = np.concatenate(self._right)
        return {
            "loss": self._loss / len(right),
            "accuracy": float(right.mean()),
            "calibration_error": binned(
                np.concatenate(self._confidence), right, _BINS
            ).error(),
            "examples": len(right),
        }
