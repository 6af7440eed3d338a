"""Gradients of the rows of `cases.py`, in NumPy float64.

Each takes (x, weights, upstream) and returns the gradients by name. Jacobians are
written out in full, one filter or one feature map at a time: slow, and independent of
the fused expressions in the package.
"""

from __future__ import annotations

import numpy as np

Weights = dict[str, np.ndarray]


def per_channel(values: np.ndarray) -> np.ndarray:
    return values.sum(axis=tuple(range(values.ndim - 1)))


def standardized_filter(
    weights: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """A flat filter's standardization, and its Jacobian (output, input)."""
    count, sigma = weights.size, weights.std()
    centered = weights - weights.mean()
    rate = 1 / (np.sqrt(count) * (sigma + epsilon))
    # d sigma / d W_j = centered_j / (N sigma)
    along = np.outer(centered, centered) / (count * sigma * (sigma + epsilon))
    return rate * centered, rate * (np.eye(count) - 1 / count - along)


def scaled_standardization(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, scale: float, epsilon: float
) -> Weights:
    d_x, d_gain = np.empty_like(x), np.empty_like(weights["gain"])
    for o, gain in enumerate(weights["gain"]):
        value, jacobian = standardized_filter(x[..., o].ravel(), epsilon)
        g = upstream[..., o].ravel()
        d_x[..., o] = (scale * gain * g @ jacobian).reshape(x.shape[:-1])
        d_gain[o] = scale * g @ value
    return {"x": d_x, "gain": d_gain}


def scaled_std_sign(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, scale: float, epsilon: float
) -> Weights:
    d_x, d_gain = np.empty_like(x), np.empty_like(weights["gain"])
    for o, gain in enumerate(weights["gain"]):
        value, jacobian = standardized_filter(x[..., o].ravel(), epsilon)
        g = upstream[..., o].ravel()
        # The sign passes as the identity; the magnitude is a constant and no factor.
        d_x[..., o] = (scale * gain * g @ jacobian).reshape(x.shape[:-1])
        d_gain[o] = scale * np.abs(value).mean() * g @ np.where(value >= 0, 1, -1)
    return {"x": d_x, "gain": d_gain}


def rsign(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, scale: float
) -> Weights:
    z = scale * x + weights["shift"]
    d_z = upstream * np.maximum(0, 2 - 2 * np.abs(z))
    return {"x": scale * d_z, "shift": per_channel(d_z)}


def rprelu(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    z = x + weights["shift_in"]
    d_x = upstream * np.where(z > 0, 1, weights["slope"])
    return {
        "x": d_x,
        "shift_in": per_channel(d_x),
        "slope": per_channel(upstream * np.minimum(z, 0)),
        "shift_out": per_channel(upstream),
    }


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
