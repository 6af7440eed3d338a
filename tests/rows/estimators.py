"""Signs with other pseudo-gradients."""

from __future__ import annotations

from functools import partial

import numpy as np
from contract_case import Case
from contract_oracles import Weights
from larq_nobn.quantizers import SigmoidSign, SignSwish


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


ROWS = (
    Case(
        SignSwish,
        role="activation",
        alias="sign_swish",
        kwargs={"beta": 3.0, "trainable_beta": True},
        shapes=((2, 5, 6, 3), (4, 3), (2, 5, 3), (2, 3, 3, 2, 3)),
        weights=("beta",),
        smooth=False,
        oracle=sign_swish,
        inference="vanishes",
        float_ops={},
    ),
    Case(
        SigmoidSign,
        role="activation",
        alias="sigmoid_sign",
        kwargs={"slope": 2.0},
        shapes=((2, 5, 6, 3), (4, 3), (2, 5, 3), (2, 3, 3, 2, 3)),
        weights=(),
        smooth=False,
        oracle=partial(sigmoid_sign, slope=2.0),
        inference="vanishes",
        float_ops={},
    ),
)
