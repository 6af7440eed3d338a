"""Binary kernels of ReCU and BNN+, and what ReCU does to activations."""

from __future__ import annotations

import numpy as np
from contract_case import Case
from contract_oracles import Weights
from larq_nobn.quantizers import ReCU


def recu(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    channels = x.shape[-1]
    filters, jacobians = [], []
    for o in range(channels):
        w = x[..., o].ravel()
        n, d = w.size, w - w.mean()
        variance = d @ d / (n - 1) + 1e-5
        rate = np.sqrt(8 / variance)
        filters.append(rate * d)
        # d variance / d W_j = 2 d_j / (n - 1), and rate goes as its -1/2-th power.
        along = np.outer(d, d) / ((n - 1) * variance)
        jacobians.append(rate * (np.eye(n) - 1 / n - along))
    limit = -np.mean(np.abs(filters)) * np.log(2 - 2 * weights["tau"])
    d_x, d_alpha = np.empty_like(x), np.empty(channels)
    for o, (hat, jacobian) in enumerate(zip(filters, jacobians, strict=True)):
        g = upstream[..., o].ravel()
        inside = g * (np.abs(hat) <= limit)
        slope = weights["alpha"][o] * inside @ jacobian
        d_x[..., o] = slope.reshape(x.shape[:-1])
        d_alpha[o] = g @ np.where(hat >= 0, 1, -1)
    return {"x": d_x, "alpha": d_alpha}


ROWS = (
    Case(
        ReCU,
        role="kernel",
        alias="recu",
        kwargs={"tau": 0.9},
        shapes=((3, 3, 4, 5), (3, 4, 5), (2, 2, 2, 3, 4), (6, 3)),
        weights=("alpha",),
        state=("tau",),
        smooth=False,
        oracle=recu,
        inference="vanishes",
        float_ops={},
    ),
)
