"""The tanh in place of a normalization."""

from __future__ import annotations

import numpy as np
from contract_case import Case
from contract_oracles import Weights, per_channel
from larq_nobn._keras import keras
from larq_nobn.layers import DynamicTanh


def dynamic_tanh(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    alpha, gamma = weights["alpha"], weights["gamma"]
    wave = np.exp(2 * alpha * x)
    t = 1 - 2 / (wave + 1)
    inner = upstream * gamma * 4 * wave / (wave + 1) ** 2
    return {
        "x": alpha * inner,
        "alpha": np.sum(inner * x),
        "gamma": per_channel(upstream * t),
        "beta": per_channel(upstream),
    }


ROWS = (
    Case(
        DynamicTanh,
        role="layer",
        alias=None,
        kwargs={"alpha": 0.7, "beta_initializer": keras.initializers.Constant(0.3)},
        shapes=((2, 4, 4, 3), (4, 3), (2, 5, 3), (2, 3, 2, 2, 3)),
        weights=("alpha", "gamma", "beta"),
        smooth=True,
        oracle=dynamic_tanh,
        inference="kept",
        float_ops={"MUL": 1, "TANH": 1, "ADD": 1},
    ),
)
