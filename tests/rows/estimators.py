"""Signs with other pseudo-gradients."""

from __future__ import annotations

from functools import partial

import numpy as np
from contract_case import Case
from contract_oracles import Weights, per_channel
from larq_nobn.quantizers import ProgressiveSign, ReSTE, SigmoidSign, SignSwish


def sigmoid_sign(
    x: np.ndarray, weights: Weights, upstream: np.ndarray, slope: float
) -> Weights:
    # 2a s(t)(1-s(t)) = a / (1 + cosh t)
    return {"x": upstream * slope / (1 + np.cosh(slope * x))}


def sign_swish(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    beta = weights["beta"]
    t = beta * x
    slope = beta * (2 - t * np.tanh(t / 2)) / (1 + np.cosh(t))  # as published
    return {"x": upstream * slope, "beta": np.sum(upstream * slope * x / beta)}


def progressive_sign(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    d_z = upstream * (np.abs(0.5 * x + weights["shift"]) <= 1)
    return {"x": 0.5 * d_z, "shift": per_channel(d_z)}


def reste(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    """As its authors write it: four masks, and one straight line near zero."""
    root, slope = weights["power"], np.zeros_like(x)
    right, left = (x > 0.1) & (x <= 1.5), (x < -0.1) & (x >= -1.5)
    slope[right] = x[right] ** (1 / root - 1) / root
    slope[left] = (-x[left]) ** (1 / root - 1) / root
    slope[abs(x) <= 0.1] = 0.1 ** (1 / root) / 0.1
    return {"x": upstream * slope}


ROWS = (
    Case(
        # Checked at inference: no oracle knows the draws of training, whose mixture has
        # tests of its own.
        ProgressiveSign,
        role="activation",
        alias="progressive_sign",
        kwargs={"scale": 0.5, "offset": 0.1, "fraction": 0.5},
        shapes=((2, 5, 6, 3), (4, 3)),
        weights=("shift",),
        state=("fraction",),
        training=False,
        oracle=progressive_sign,
        inference="folded",
        float_ops={"SUB": 1},
    ),
    Case(
        ReSTE,
        role="activation",
        alias="reste",
        kwargs={"power": 2.0},
        shapes=((2, 5, 6, 3), (2, 5, 3)),
        state=("power",),
        oracle=reste,
        inference="removed",
    ),
    Case(
        SignSwish,
        role="activation",
        alias="sign_swish",
        kwargs={"beta": 3.0, "trainable_beta": True},
        shapes=((2, 5, 6, 3), (2, 3, 3, 2, 3)),
        weights=("beta",),
        oracle=sign_swish,
        inference="removed",
    ),
    Case(
        SigmoidSign,
        role="activation",
        alias="sigmoid_sign",
        kwargs={"slope": 2.0},
        shapes=((2, 5, 6, 3), (4, 3)),
        oracle=partial(sigmoid_sign, slope=2.0),
        inference="removed",
    ),
)
