"""Class probabilities of classifiers that end in logits, or in a softmax."""

from __future__ import annotations

import numpy as np

# Of 8 bits, which are the coarsest; bfloat16 has steps of 1/256 below 1, too.
_STEP = 1 / 256


def as_logits(outputs: np.ndarray) -> np.ndarray:
    """Our networks end in logits; models from elsewhere may end in a softmax.

    Each probability may be rounded to a step of 1/256. What is 0 then counts as half of
    a step.
    """
    rounded = np.array_equal(outputs, np.round(outputs / _STEP) * _STEP)
    off = max(4e-3, outputs.shape[1] * _STEP / 2 if rounded else 0.0)
    inside = ((outputs >= 0) & (outputs <= 1)).all()
    if inside and (np.abs(outputs.sum(1) - 1) <= min(off, 0.5)).all():
        return np.log(np.maximum(outputs, _STEP / 2 if rounded else 1e-12))
    return outputs


def log_partition(logits: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of the exponentials of each row."""
    highest = logits.max(1, keepdims=True)
    return highest[:, 0] + np.log(np.exp(logits - highest).sum(1))


def as_probabilities(outputs: np.ndarray) -> np.ndarray:
    """The probabilities that outputs stand for, in float64."""
    logits = as_logits(np.asarray(outputs, np.float64))
    return np.exp(logits - log_partition(logits)[:, None])
