"""Filter response normalization and its thresholded activation."""

from __future__ import annotations

from functools import partial

import numpy as np
from contract_case import Case
from contract_oracles import Weights, per_channel
from larq_nobn._keras import keras
from larq_nobn.layers import FilterResponseNormalization, ThresholdedLinearUnit


def filter_response_normalization(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, epsilon: float
) -> Weights:
    d_x = np.empty_like(x)
    d_gamma, d_learned = np.zeros_like(weights["gamma"]), np.zeros_like(weights["beta"])
    for n in range(x.shape[0]):
        for c, gamma in enumerate(weights["gamma"]):
            v, g = x[n, ..., c].ravel(), upstream[n, ..., c].ravel()
            learned = weights["learned_epsilon"][c]
            r = np.sqrt(np.mean(v**2) + epsilon + abs(learned))
            # d r / d x_j = x_j / (P r), over the P positions
            jacobian = gamma * (np.eye(v.size) / r - np.outer(v, v) / (v.size * r**3))
            d_x[n, ..., c] = (g @ jacobian).reshape(x.shape[1:-1])
            d_gamma[c] += g @ v / r
            d_learned[c] -= np.sign(learned) * gamma * (g @ v) / (2 * r**3)
    return {
        "x": d_x,
        "gamma": d_gamma,
        "beta": per_channel(upstream),
        "learned_epsilon": d_learned,
    }


def thresholded_linear_unit(
    x: np.ndarray, weights: Weights, upstream: np.ndarray
) -> Weights:
    above = x > weights["tau"]
    return {"x": upstream * above, "tau": per_channel(upstream * ~above)}


ROWS = (
    Case(
        FilterResponseNormalization,
        role="layer",
        alias=None,
        kwargs={
            "epsilon": 0.01,
            "learned_epsilon": True,
            "beta_initializer": keras.initializers.Constant(0.5),
        },
        shapes=((2, 4, 4, 3), (4, 3), (2, 5, 3), (2, 3, 2, 2, 3)),
        weights=("gamma", "beta", "learned_epsilon"),
        smooth=True,
        oracle=partial(filter_response_normalization, epsilon=0.01),
        inference="kept",
        float_ops={"SQUARE": 1, "MEAN": 1, "ADD": 2, "RSQRT": 1, "MUL": 2},
    ),
    Case(
        ThresholdedLinearUnit,
        role="layer",
        alias=None,
        kwargs={"tau_initializer": keras.initializers.Constant(-0.5)},
        shapes=((2, 4, 4, 3), (4, 3), (2, 5, 3), (2, 3, 2, 2, 3)),
        weights=("tau",),
        smooth=True,
        oracle=thresholded_linear_unit,
        inference="kept",
        float_ops={"MAXIMUM": 1},
    ),
)
