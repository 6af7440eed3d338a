"""What the NumPy oracles of several rows share."""

from __future__ import annotations

import numpy as np

Weights = dict[str, np.ndarray]


def per_channel(values: np.ndarray) -> np.ndarray:
    return values.sum(axis=tuple(range(values.ndim - 1)))


def standardized(
    values: np.ndarray, epsilon: float, ddof: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A flat group without mean and scale, and its Jacobian (output, input)."""
    count, sigma = values.size, np.sqrt(values.var(ddof=ddof) + epsilon)
    n = (values - values.mean()) / sigma
    # d sigma / d x_j = n_j / (P - ddof), over the P values.
    along = np.outer(n, n) / (count - ddof)
    return n, (np.eye(count) - 1 / count - along) / sigma
