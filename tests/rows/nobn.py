"""BNN-BN: standardized kernels, and ReActNet's shifted activations."""

from __future__ import annotations

from functools import partial

import numpy as np
from contract_case import Case
from contract_oracles import Weights, per_channel
from larq_nobn.layers import RPReLU
from larq_nobn.quantizers import RSign, ScaledStandardization, ScaledStdSign


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


def std_signs(
    x: np.ndarray,
    scale: float,
    epsilon: float,
    preserving: bool = False,
    balanced: bool = False,
) -> np.ndarray:
    """The signs of standardized filters with their magnitude, before the gain."""
    actual = np.empty_like(x)
    for o in range(x.shape[-1]):
        value, _ = standardized_filter(x[..., o].ravel(), epsilon)
        threshold = np.median(value) if balanced else 0
        magnitude = value.size**-0.5 if preserving else np.abs(value).mean()
        signs = scale * magnitude * np.where(value >= threshold, 1, -1)
        actual[..., o] = signs.reshape(x.shape[:-1])
    return actual


def scaled_std_sign(
    x: np.ndarray,
    weights: Weights,
    upstream: np.ndarray,
    scale: float,
    epsilon: float,
    **form: bool,
) -> Weights:
    d_x = np.empty_like(x)
    for o, gain in enumerate(weights["gain"]):
        # The sign passes as the identity; the magnitude is a constant and no factor.
        _, jacobian = standardized_filter(x[..., o].ravel(), epsilon)
        g = upstream[..., o].ravel()
        d_x[..., o] = (scale * gain * g @ jacobian).reshape(x.shape[:-1])
    signs = std_signs(x, scale, epsilon, **form)
    return {"x": d_x, "gain": per_channel(upstream * signs)}


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


ROWS = (
    Case(
        ScaledStandardization,
        role="kernel",
        alias="scaled_standardization",
        kwargs={"scale": 1.7, "epsilon": 1e-3},
        shapes=((3, 3, 4, 5), (6, 3)),
        weights=("gain",),
        smooth=True,
        oracle=partial(scaled_standardization, scale=1.7, epsilon=1e-3),
        inference="removed",
        lce_bconv2d=0,
        float_ops={"CONV_2D": 1},
    ),
    Case(
        ScaledStdSign,
        role="kernel",
        alias="scaled_std_sign",
        kwargs={"scale": 0.2, "epsilon": 1e-3},
        shapes=((3, 3, 4, 5), (3, 4, 5), (6, 3)),
        weights=("gain",),
        oracle=partial(scaled_std_sign, scale=0.2, epsilon=1e-3),
        inference="removed",
    ),
    Case(
        RSign,
        role="activation",
        alias="rsign",
        kwargs={"scale": 0.9},
        shapes=((2, 5, 6, 3), (2, 5, 3)),
        weights=("shift",),
        oracle=partial(rsign, scale=0.9),
        inference="folded",
        float_ops={"SUB": 1},
    ),
    Case(
        RPReLU,
        shapes=((2, 4, 4, 3), (2, 3, 2, 2, 3)),
        weights=("shift_in", "slope", "shift_out"),
        smooth=True,
        oracle=rprelu,
        inference="kept",
        float_ops={"PRELU": 1, "ADD": 1},
    ),
)
