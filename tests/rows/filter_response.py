"""FRN, EvoNorm and what goes with them in networks without batch norm."""

from __future__ import annotations

from functools import partial

import numpy as np
from contract_case import Case
from contract_oracles import Weights, per_channel
from larq_nobn._keras import keras
from larq_nobn.layers import (
    EvoNormS0,
    FilterResponseNormalization,
    SkipInit,
    ThresholdedLinearUnit,
)


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


def evonorm_s0(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, groups: int, epsilon: float
) -> Weights:
    v, gamma = weights["v"], weights["gamma"]
    gate = 1 / (1 + np.exp(-v * x))
    h, d_gate = x * gate, gate * (1 - gate)
    rate, d_x = np.empty_like(x), np.empty_like(x)
    for n in range(x.shape[0]):
        for members in np.split(np.arange(x.shape[-1]), groups):
            of = x[n][..., members]
            r = 1 / np.sqrt(of.var() + epsilon)
            rate[n][..., members] = r
            direct = gate[n] + x[n] * v * d_gate[n]
            g = (gamma * upstream[n])[..., members]
            # d var / d x_j = 2 (x_j - mean) / M
            along = np.sum(g * h[n][..., members]) * -(r**3) / 2
            d_x[n][..., members] = (
                g * r * direct[..., members] + along * 2 * (of - of.mean()) / of.size
            )
    return {
        "x": d_x,
        "v": per_channel(upstream * gamma * rate * x**2 * d_gate),
        "gamma": per_channel(upstream * rate * h),
        "beta": per_channel(upstream),
    }


def skip_init(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    return {"x": weights["gain"] * upstream, "gain": np.sum(upstream * x)}


ROWS = (
    Case(
        FilterResponseNormalization,
        kwargs={
            "epsilon": 0.01,
            "learned_epsilon": True,
            "beta_initializer": keras.initializers.Constant(0.5),
        },
        shapes=((2, 4, 4, 3), (4, 3), (2, 3, 2, 2, 3)),
        weights=("gamma", "beta", "learned_epsilon"),
        smooth=True,
        oracle=partial(filter_response_normalization, epsilon=0.01),
        inference="kept",
        float_ops={"SQUARE": 1, "MEAN": 1, "ADD": 2, "RSQRT": 1, "MUL": 2},
    ),
    Case(
        ThresholdedLinearUnit,
        kwargs={"tau_initializer": keras.initializers.Constant(-0.5)},
        shapes=((2, 4, 4, 3), (4, 3)),
        weights=("tau",),
        smooth=True,
        oracle=thresholded_linear_unit,
        inference="kept",
        float_ops={"MAXIMUM": 1},
    ),
    Case(
        EvoNormS0,
        kwargs={"groups": 2, "epsilon": 0.01},
        shapes=((2, 4, 4, 6), (4, 6), (2, 3, 2, 2, 6)),
        weights=("v", "gamma", "beta"),
        smooth=True,
        oracle=partial(evonorm_s0, groups=2, epsilon=0.01),
        inference="kept",
        float_ops={
            **{"MEAN": 4, "RESHAPE": 4, "TILE": 2, "SQUARED_DIFFERENCE": 1},
            **{"ADD": 2, "RSQRT": 1, "MUL": 4, "LOGISTIC": 1},
        },
    ),
    Case(
        SkipInit,
        # With the usual start at zero, nothing before the layer would learn yet.
        kwargs={"gain_initializer": keras.initializers.Constant(0.5)},
        shapes=((2, 4, 4, 3), (2, 5, 3)),
        weights=("gain",),
        smooth=True,
        oracle=skip_init,
        inference="folded",
    ),
)
