"""The spiking neuron, with its gradients through time step by step."""

from __future__ import annotations

import numpy as np
from contract_case import Case
from contract_oracles import Weights
from larq_nobn.layers import LeakyIntegrateAndFire


def leaky_integrate_and_fire(
    x: np.ndarray,
    weights: Weights,
    upstream: np.ndarray,
    decay: float = 0.9,
    threshold: float = 1.0,
    hard: bool = False,
    signed: bool = False,
) -> Weights:
    before, after = np.empty_like(x), np.zeros_like(x[:, 0])
    for t in range(x.shape[1]):
        before[:, t] = decay * after + x[:, t]
        fired = before[:, t] >= threshold
        after = np.where(fired, 0 if hard else before[:, t] - threshold, before[:, t])
    d_x, d_after = np.empty_like(x), np.zeros_like(after)
    for t in reversed(range(x.shape[1])):
        near = np.abs(before[:, t] - threshold) <= 0.5
        passed = before[:, t] < threshold if hard else 1
        d_x[:, t] = (1 + signed) * upstream[:, t] * near + passed * d_after
        d_after = decay * d_x[:, t]
    return {"x": d_x}


ROWS = (
    Case(
        LeakyIntegrateAndFire,
        shapes=((2, 4, 5), (3, 6, 2, 3), (2, 3, 2, 2, 3)),
        oracle=leaky_integrate_and_fire,
        inference="kept",
        lce_bconv2d=0,
        float_ops={
            **{"UNPACK": 1, "MUL": 3, "ADD": 3, "GREATER_EQUAL": 4, "CAST": 4},
            **{"SUB": 3, "PACK": 1},
        },
    ),
)
