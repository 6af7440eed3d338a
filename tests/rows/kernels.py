"""Binary kernels of ReCU, BiPer, BNN+ and BiSNN, and what ReCU does to activations."""

from __future__ import annotations

from functools import partial

import numpy as np
from contract_case import Case
from contract_oracles import Weights, standardized
from larq_nobn.layers import ActivationStandardization
from larq_nobn.quantizers import (
    BernoulliSign,
    BinaryRegularized,
    BiPer,
    ReCU,
    ScaledStdSign,
)

from .nobn import scaled_std_sign


def recu(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    channels = x.shape[-1]
    flat = [x[..., o].ravel() for o in range(channels)]
    # Of unit variance times 8, with the unbiased variance.
    actual = [standardized(w, 1e-5, ddof=1) for w in flat]
    filters, jacobians = (
        [8**0.5 * each for each in of] for of in zip(*actual, strict=True)
    )
    limit = -np.mean(np.abs(filters)) * np.log(2 - 2 * weights["tau"])
    d_x, d_alpha = np.empty_like(x), np.empty(channels)
    for o, (hat, jacobian) in enumerate(zip(filters, jacobians, strict=True)):
        g = upstream[..., o].ravel()
        inside = g * (np.abs(hat) <= limit)
        slope = weights["alpha"][o] * inside @ jacobian
        d_x[..., o] = slope.reshape(x.shape[:-1])
        d_alpha[o] = g @ np.where(hat >= 0, 1, -1)
    return {"x": d_x, "alpha": d_alpha}


def biper(
    x: np.ndarray,
    weights: Weights,
    upstream: np.ndarray,
    frequency: float,
    scale: float,
) -> Weights:
    value, gain = np.sin(frequency * x), weights["gain"]
    scale = scale / np.sqrt(x[..., 0].size)
    slope = frequency * np.sqrt(1 - value**2)  # of a sine, up to its sign
    falls = np.floor(frequency * x / np.pi + 0.5) % 2 == 1
    d_gain = scale * upstream * np.where(value >= 0, 1, -1)
    return {
        "x": scale * gain * upstream * np.where(falls, -slope, slope),
        "gain": d_gain.reshape(-1, x.shape[-1]).sum(0),
    }


def binary_regularized(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, strength: float
) -> Weights:
    inside = scaled_std_sign(x, weights, upstream, scale=1, epsilon=1e-3)
    beyond = np.sign(weights["scale"] - np.abs(x))
    d_scale = strength * beyond.reshape(-1, x.shape[-1]).sum(0)
    return {
        **inside,
        "x": inside["x"] - strength * beyond * np.sign(x),
        "scale": d_scale,
    }


def mode(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    return {"x": np.zeros_like(x)}


def activation_standardization(
    x: np.ndarray, weights: Weights, upstream: np.ndarray
) -> Weights:
    d_x = np.empty_like(x)
    for n, example in enumerate(x):
        v, g = example.ravel(), upstream[n].ravel()
        variance = v.var(ddof=1) + 1e-5
        # d variance / d x_j = 2 (x_j - mean) / (M - 1)
        along = np.outer(v, v - v.mean()) / ((v.size - 1) * variance)
        d_x[n] = (g @ (np.eye(v.size) - along) / np.sqrt(variance)).reshape(x.shape[1:])
    return {"x": d_x}


ROWS = (
    Case(
        ReCU,
        role="kernel",
        alias="recu",
        kwargs={"tau": 0.9},
        shapes=((3, 3, 4, 5), (2, 2, 2, 3, 4), (6, 3)),
        weights=("alpha",),
        state=("tau",),
        oracle=recu,
        inference="removed",
    ),
    Case(
        BiPer,
        role="kernel",
        alias="biper",
        kwargs={"frequency": 5.0, "scale": 0.3, "variance_preserving": True},
        shapes=((3, 3, 4, 5), (6, 3)),
        weights=("gain",),
        oracle=partial(biper, frequency=5.0, scale=0.3),
        inference="removed",
    ),
    Case(
        BinaryRegularized,
        role="kernel",
        kwargs=lambda: {
            "quantizer": ScaledStdSign(epsilon=1e-3),
            "strength": 0.3,
            "per_channel": True,
        },
        shapes=((3, 3, 4, 5), (6, 3)),
        weights=("scale", "gain"),
        oracle=partial(binary_regularized, strength=0.3),
        inference="removed",
    ),
    Case(
        # Checked at inference: no oracle knows the draws of training, whose relaxation
        # has tests of its own.
        BernoulliSign,
        role="kernel",
        alias="bernoulli_sign",
        kwargs={"temperature": 0.5, "hard": True},
        shapes=((3, 3, 4, 5), (6, 3)),
        training=False,
        smooth=True,
        oracle=mode,
        inference="removed",
    ),
    Case(
        ActivationStandardization,
        shapes=((2, 4, 4, 3), (4, 3), (2, 3, 2, 2, 3)),
        training=True,
        smooth=True,
        oracle=activation_standardization,
        inference="removed",
    ),
)
