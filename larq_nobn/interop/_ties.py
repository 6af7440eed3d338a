"""Weights whose sign is a matter of rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_CLOSE = 1e-6  # relative to the largest weight of a filter; float32 has 1.2e-7


def plain_means(weights: Any) -> Any:
    """The means of filters as `mean` rounds them, which ReCU's code takes."""
    return weights.mean((1, 2, 3), keepdim=True)


def std_means(weights: Any) -> Any:
    """As `std_mean` rounds them, which the code of BNN-BN and A&B BNN takes."""
    import torch

    _, means = torch.std_mean(weights, (1, 2, 3), correction=0, keepdim=True)
    return means


def decided(kernel: np.ndarray, means: Callable[[Any], Any]) -> np.ndarray:
    """Moves weights beside the mean of their filter to the side where PyTorch has them.

    A network of ten million weights has about one that lies within float32's rounding
    of its filter's mean. Its sign depends on the order in which the mean is summed, and
    every output on its sign.

    Arguments:
        kernel: (outputs, inputs, height, width); it is not changed.
        means: `plain_means` or `std_means`.
    """
    import torch

    weights = torch.from_numpy(kernel)
    sides = (weights - means(weights)).sign().numpy()
    exact = kernel.astype(np.float64)
    step = _CLOSE * np.abs(exact).max((1, 2, 3), keepdims=True)
    close = np.abs(exact - exact.mean((1, 2, 3), keepdims=True)) <= step
    return np.where(close, exact + sides * step, exact).astype(np.float32)
