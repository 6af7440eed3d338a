"""Batch Kalman normalization."""

from __future__ import annotations

from functools import partial

import numpy as np
from contract_case import Case, Shape, normal
from contract_oracles import Weights
from larq_nobn.layers import BatchKalmanNormalization


def draw_features_or_variance(
    rng: np.random.Generator, shape: Shape
) -> np.ndarray:  # a mean may be positive as well as any other
    return rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else normal(rng, shape)


def batch_kalman_normalization(
    inputs: list[np.ndarray],
    weights: Weights,
    upstream: tuple,
    prior: float,
    epsilon: float,
) -> Weights:
    """By the full Jacobians of mean, variance and output, channel by channel."""
    x, prior_mean, prior_variance = inputs
    d_y, (d_mean, d_variance) = upstream
    d_x, d_prior = np.empty_like(x), np.empty((2, x.shape[-1]))
    d_gamma, d_beta = np.empty_like(prior_mean), np.empty_like(prior_mean)
    for c, gamma in enumerate(weights["gamma"]):
        v, g = x[..., c].ravel(), d_y[..., c].ravel()
        n, gap = v.size, v.mean() - prior_mean[c]
        mean = prior * prior_mean[c] + (1 - prior) * v.mean()
        second = prior * (prior_variance[c] + prior_mean[c] ** 2)
        variance = second + (1 - prior) * np.mean(v**2) - mean**2
        rate = 1 / np.sqrt(variance + epsilon)
        # Rows: mean and variance; columns: every x, the prior's mean and variance.
        of_moments = np.empty((2, n + 2))
        of_moments[0] = [*np.full(n, (1 - prior) / n), prior, 0]
        of_moments[1] = [
            *((1 - prior) * 2 * v / n - 2 * mean * (1 - prior) / n),
            -2 * prior * (1 - prior) * gap,
            prior,
        ]
        of_y = np.outer(np.full(n, -gamma * rate), of_moments[0])
        of_y -= np.outer(gamma * (v - mean) * rate**3 / 2, of_moments[1])
        of_y[:, :n] += gamma * rate * np.eye(n)
        slopes = g @ of_y + [d_mean[c], d_variance[c]] @ of_moments
        d_x[..., c] = slopes[:n].reshape(x.shape[:-1])
        d_prior[:, c] = slopes[n:]
        d_gamma[c], d_beta[c] = g @ (v - mean) * rate, g.sum()
    return {"x": [d_x, *d_prior], "gamma": d_gamma, "beta": d_beta}


ROWS = (
    Case(
        BatchKalmanNormalization,
        kwargs={"prior": 0.7, "epsilon": 0.01},
        shapes=(
            [(4, 5, 6, 3), (3,), (3,)],
            [(6, 3), (3,), (3,)],
            [(2, 3, 2, 2, 3), (3,), (3,)],
        ),
        weights=("gamma", "beta"),
        state=("moving_mean", "moving_variance"),
        smooth=True,
        oracle=partial(batch_kalman_normalization, prior=0.7, epsilon=0.01),
        inference="folded",
        training=True,
        sees_batch=True,
        output_dtypes=(None, "float32", "float32"),
        draw=draw_features_or_variance,
    ),
)
