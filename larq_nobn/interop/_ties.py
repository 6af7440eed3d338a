"""Weights whose sign is a matter of rounding."""

from __future__ import annotations

import numpy as np

_CLOSE = 1e-6  # relative to the largest weight of a filter; float32 has 1.2e-7


def decided(kernel: np.ndarray) -> np.ndarray:
    """Moves weights beside the mean of their filter to the side where PyTorch has them.

    A network of ten million weights has about one that lies within float32's rounding
    of its filter's mean. Its sign depends on the order in which `torch.std_mean` sums
    the mean, and every output on its sign.

    Arguments:
        kernel: (outputs, inputs, height, width); it is not changed.
    """
    import torch

    weights = torch.from_numpy(kernel)
    _, means = torch.std_mean(weights, (1, 2, 3), correction=0, keepdim=True)
    sides = (weights - means).sign().numpy()
    exact = kernel.astype(np.float64)
    step = _CLOSE * np.abs(exact).max((1, 2, 3), keepdims=True)
    close = np.abs(exact - exact.mean((1, 2, 3), keepdims=True)) <= step
    return np.where(close, exact + sides * step, exact).astype(np.float32)
