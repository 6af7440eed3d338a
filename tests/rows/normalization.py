"""Normalizers around an activation or a dropout, and the dropout of signs."""

from __future__ import annotations

from functools import partial
from statistics import NormalDist

import numpy as np
from contract_case import Case, Shape
from contract_oracles import Weights, per_channel, standardized
from larq_nobn.layers import IndependentComponent, ProxyNormalization, SignFlipDropout


def proxy_normalization(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, epsilon: float, samples: int
) -> Weights:
    """Layer norm, tanh, and quantiles as the proxy."""
    gamma, beta = weights["gamma"], weights["beta"]
    spread = 1 + weights["proxy_gamma"]
    places = [NormalDist().inv_cdf((i + 0.5) / samples) for i in range(samples)]
    q = np.array(places)[:, np.newaxis]
    proxy = weights["proxy_beta"] + spread * q
    values = np.tanh(gamma * proxy + beta)
    center, variance = values.mean(0), values.var(0)
    rate = 1 / np.sqrt(variance + epsilon)
    d_x, n, d_y = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    d_center, d_variance = np.zeros_like(gamma), np.zeros_like(gamma)
    for example in range(x.shape[0]):
        flat, jacobian = standardized(x[example].ravel(), 1e-5)
        n[example] = flat.reshape(x.shape[1:])
        z, g = np.tanh(gamma * n[example] + beta), upstream[example]
        d_y[example] = g * rate * (1 - z**2)
        d_x[example] = ((gamma * d_y[example]).ravel() @ jacobian).reshape(x.shape[1:])
        positions = tuple(range(z.ndim - 1))
        d_center -= (g * rate).sum(positions)
        d_variance -= (g * (z - center) * rate**3).sum(positions) / 2
    d_values = (d_center + 2 * d_variance * (values - center)) / samples
    d_proxy = d_values * (1 - values**2)
    return {
        "x": d_x,
        "gamma": per_channel(d_y * n) + (d_proxy * proxy).sum(0),
        "beta": per_channel(d_y) + d_proxy.sum(0),
        "proxy_gamma": (d_proxy * gamma * q).sum(0),
        "proxy_beta": (d_proxy * gamma).sum(0),
    }


def independent_component(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, epsilon: float
) -> Weights:
    """Batch norm with the batch's statistics, and nothing dropped."""
    d_x, d_gamma = np.empty_like(x), np.empty_like(weights["gamma"])
    for c, gamma in enumerate(weights["gamma"]):
        n, jacobian = standardized(x[..., c].ravel(), epsilon)
        g = upstream[..., c].ravel()
        d_x[..., c] = (gamma * g @ jacobian).reshape(x.shape[:-1])
        d_gamma[c] = g @ n
    return {"x": d_x, "gamma": d_gamma, "beta": per_channel(upstream)}


def nothing(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    return {"x": upstream}


def signs(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return rng.choice([-1.0, 1.0], shape)


ROWS = (
    Case(
        ProxyNormalization,
        kwargs={"activation": "tanh", "num_samples": 50, "epsilon": 0.05},
        shapes=((2, 4, 4, 3), (4, 3), (2, 3, 2, 2, 3)),
        weights=("gamma", "beta", "proxy_gamma", "proxy_beta"),
        smooth=True,
        oracle=partial(proxy_normalization, epsilon=0.05, samples=50),
        inference="kept",
        float_ops={
            **{"MEAN": 2, "SQUARED_DIFFERENCE": 1, "RSQRT": 1, "TANH": 1},
            **{"ADD": 2, "SUB": 2, "MUL": 3},
        },
    ),
    Case(
        # Without dropout, whose draws no oracle knows.
        IndependentComponent,
        kwargs={"rate": 0.0, "momentum": 0.9, "epsilon": 0.01},
        shapes=((4, 3, 3, 3), (6, 3), (2, 3, 2, 2, 3)),
        weights=("gamma", "beta"),
        state=("moving_mean", "moving_variance"),
        sees_batch=True,
        training=True,
        smooth=True,
        oracle=partial(independent_component, epsilon=0.01),
        inference="folded",
    ),
    Case(
        # Checked at inference, for the same reason.
        SignFlipDropout,
        kwargs={"rate": 0.9},
        shapes=((2, 4, 4, 3), (2, 3, 2, 2, 3)),
        training=False,
        smooth=True,
        oracle=nothing,
        inference="removed",
        draw=signs,
    ),
)
