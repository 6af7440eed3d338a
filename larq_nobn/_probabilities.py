"""Class probabilities of classifiers that end in logits, or in a softmax."""

from __future__ import annotations

import numpy as np


def as_logits(outputs: np.ndarray) -> np.ndarray:
    """Our networks end in logits; models from elsewhere may end in a softmax."""
    if (outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-3):
        return np.log(np.maximum(outputs, 1e-12))
    return outputs


def log_partition(logits: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of the exponentials of each row."""
    highest = logits.max(1, keepdims=True)
    return highest[:, 0] + np.log(np.exp(logits - highest).sum(1))


def as_probabilities(outputs: np.ndarray) -> np.ndarray:
    """The probabilities that outputs stand for, in float64."""
    logits = as_logits(np.asarray(outputs, np.float64))
    return np.exp(logits - log_partition(logits)[:, None])
