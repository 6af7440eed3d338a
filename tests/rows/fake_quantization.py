"""The simulation of int8 feature maps."""

from __future__ import annotations

import numpy as np
from contract_case import Case
from contract_oracles import Weights
from larq_nobn.layers import FakeQuantization


def fake_quantization(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    """The gradient passes where one of 256 values, of which one is 0, is at hand."""
    low, high = float(weights["minimum"]), float(weights["maximum"])
    step = (high - low) / 255
    zero = np.round(-low / step)
    steps = x / step + zero
    return {"x": upstream * ((steps >= 0) & (steps <= 255))}


ROWS = (
    Case(
        FakeQuantization,
        role="layer",
        alias=None,
        kwargs={"momentum": 0.9},
        shapes=((2, 4, 4, 3), (4, 3), (2, 5, 3), (2, 3, 2, 2, 3)),
        weights=(),
        state=("minimum", "maximum"),
        training=True,
        sees_batch=True,
        smooth=False,
        oracle=fake_quantization,
        inference="kept",
        float_ops={"DEQUANTIZE": 1},
    ),
)
