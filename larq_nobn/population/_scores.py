"""Computes scores of a classifier: loss, accuracy and calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._checks import check_integer
from .._errors import InvalidType, InvalidValue

# The coarsest step of probabilities: that of 8 bits, and of bfloat16 just below 1.
_STEP = 1 / 256


def as_logits(outputs: np.ndarray) -> np.ndarray:
    """Returns outputs as logits; takes the logarithm of outputs of a softmax.

    Probabilities may be rounded to a step of 1/256; then 0 counts as half of a step.
    """
    rounded = np.array_equal(outputs, np.round(outputs / _STEP) * _STEP)
    tolerance = max(4e-3, outputs.shape[1] * _STEP / 2 if rounded else 0.0)
    inside = ((outputs >= 0) & (outputs <= 1)).all()
    if inside and (np.abs(outputs.sum(1) - 1) <= min(tolerance, 0.5)).all():
        return np.log(np.maximum(outputs, _STEP / 2 if rounded else 1e-12))
    return outputs


def log_partition(logits: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the sum of the exponentials of each row."""
    highest = logits.max(1, keepdims=True)
    return highest[:, 0] + np.log(np.exp(logits - highest).sum(1))


def as_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Returns the probabilities of outputs, logits or a softmax, in float64."""
    logits = as_logits(np.asarray(outputs, np.float64))
    return np.exp(logits - log_partition(logits)[:, None])


@dataclass(frozen=True)
class Bins:
    """Predictions by confidence, in intervals of equal width.

    Attributes:
        fraction: The fraction of all predictions in each interval, (bins,).
        confidence: The mean confidence of each interval's predictions; 0 without any.
        accuracy: The fraction of its predictions that is right; 0 without any.
    """

    fraction: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    def error(self) -> float:
        """Returns the expected calibration error."""
        return float(np.sum(self.fraction * np.abs(self.accuracy - self.confidence)))


def binned(confidence: np.ndarray, right: np.ndarray, bins: int) -> Bins:
    """Returns predictions by confidence, in the intervals (k/bins, (k+1)/bins]."""
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(places, values, bins) / np.maximum(counts, 1)

    return Bins(counts / len(places), mean(confidence), mean(right))


def predictions(probabilities: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confidence of each prediction and whether it is right."""
    p, y = np.asarray(probabilities), np.asarray(labels)
    if p.dtype.kind not in "fiu":
        raise InvalidType(
            f"probabilities are of type {p.dtype}, but they must be numbers. Pass the "
            "softmax of logits."
        )
    p = p.astype(np.float64)
    if p.ndim != 2 or not len(p) or y.shape != (len(p),):
        raise InvalidValue(
            f"probabilities of shape {p.shape} and labels of shape {y.shape} do not "
            "fit. Pass the shapes (examples, classes) and (examples,), with at least "
            "one example."
        )
    if (p < 0).any() or not np.allclose(p.sum(1), 1, atol=1e-3):
        raise InvalidValue(
            f"probabilities range from {p.min():.3g} to {p.max():.3g} and do not add "
            "up to 1 per example. Pass the softmax of logits."
        )
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= p.shape[1]:
        raise InvalidValue(
            f"labels of type {y.dtype} range from {y.min()} to {y.max()}, but they "
            f"must be whole numbers below {p.shape[1]}. Pass one class per example."
        )
    return p.max(1), p.argmax(1) == y


def expected_calibration_error(
    probabilities: Any, labels: Any, bins: int = 15
) -> float:
    r"""Returns the expected calibration error of a classifier.

    The confidence of a prediction is the probability of the predicted class. With
    predictions grouped by confidence in intervals \(B_k\) of equal width,

    \[ \mathrm{ECE} = \sum_k \frac{|B_k|}{N}
       \big|\operatorname{accuracy}(B_k) - \operatorname{confidence}(B_k)\big| . \]

    Arguments:
        probabilities: (N, classes), rows that add up to 1.
        labels: (N,), whole numbers.
        bins: Number of intervals, 1 or more.

    Returns:
        A number in [0, 1]; 0 if the accuracy equals the confidence in every interval.

    Raises:
        TypeError, ValueError: For arguments that differ from this description.

    Example:
        ```python
        import larq_nobn as nobn

        error = nobn.diagnostics.expected_calibration_error(
            [[0.9, 0.1], [0.8, 0.2]], [0, 1]
        )
        print(error)  # 0.45: a tenth in one interval, eight tenths in another
        ```

    References:
        - C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural
          Networks", ICML 2017, arXiv:1706.04599.

    Differences from the paper:
        None known.
    """
    check_integer("bins", bins, 1, "15 is usual.")
    return binned(*predictions(probabilities, labels), bins).error()


_BINS = 15  # usual for the expected calibration error


class Scores:
    """Loss, accuracy and calibration error of outputs, accumulated batch by batch."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._confidence: list[np.ndarray] = []
        self._right: list[np.ndarray] = []

    @np.errstate(invalid="ignore")  # the loss may be infinite or NaN
    def update(self, outputs: Any, labels: np.ndarray) -> np.ndarray:
        """Adds a batch, and returns its logits in float64.

        Arguments:
            outputs: Logits or probabilities, (N, classes).
            labels: The classes, (N,).
        """
        if isinstance(outputs, dict) and len(outputs) == 1:  # of a SavedModel
            (outputs,) = outputs.values()
        try:
            outputs = np.asarray(outputs, np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidValue(
                "The model has several or named outputs, but a classifier returns one "
                "number per class. Choose a classifier."
            ) from error
        if outputs.ndim != 2 or labels.max() >= outputs.shape[1]:
            raise InvalidValue(
                f"The model's output has shape {outputs.shape}, but the largest label "
                f"is {labels.max()}. Choose the data set that it was trained on."
            )
        logits = as_logits(outputs)
        partition = log_partition(logits)
        self._loss += float(np.sum(partition - logits[np.arange(len(labels)), labels]))
        self._confidence.append(np.exp(logits.max(1) - partition))
        self._right.append(logits.argmax(1) == labels)
        return logits

    @np.errstate(invalid="ignore")
    def to_dict(self) -> dict[str, float]:
        """Returns `loss`, `accuracy`, `calibration_error` and `examples`."""
        if not self._right:
            raise InvalidValue("There are no images to evaluate on. Give at least one.")
        right = np.concatenate(self._right)
        bins = binned(np.concatenate(self._confidence), right, _BINS)
        return {
            "loss": self._loss / len(right),
            "accuracy": float(right.mean()),
            "calibration_error": bins.error(),
            "examples": len(right),
        }
