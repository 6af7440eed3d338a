"""What acts on every value alone: a scale and bias, a tanh, int8 steps."""

from __future__ import annotations

import numpy as np
from contract_case import Case
from contract_oracles import Weights, per_channel
from larq_nobn._keras import keras
from larq_nobn.layers import ChannelAffine, DynamicTanh, FakeQuantization


def channel_affine(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    return {
        "x": weights["gamma"] * upstream,
        "gamma": per_channel(upstream * x),
        "beta": per_channel(upstream),
    }


def dynamic_tanh(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    alpha, gamma = weights["alpha"], weights["gamma"]
    wave = np.exp(2 * alpha * x)
    t = 1 - 2 / (wave + 1)
    inner = upstream * gamma * 4 * wave / (wave + 1) ** 2
    return {
        "x": alpha * inner,
        "alpha": np.sum(inner * x),
        "gamma": per_channel(upstream * t),
        "beta": per_channel(upstream),
    }


def fake_quantization(x: np.ndarray, weights: Weights, upstream: np.ndarray) -> Weights:
    """The gradient passes where one of 256 values, of which one is 0, is at hand."""
    low, high = float(weights["minimum"]), float(weights["maximum"])
    step = (high - low) / 255
    zero = np.round(-low / step)
    steps = x / step + zero
    return {"x": upstream * ((steps >= 0) & (steps <= 255))}


ROWS = (
    Case(
        ChannelAffine,
        shapes=((2, 4, 4, 3), (4, 3)),
        weights=("gamma", "beta"),
        smooth=True,
        oracle=channel_affine,
        inference="folded",
    ),
    Case(
        DynamicTanh,
        kwargs={"alpha": 0.7, "beta_initializer": keras.initializers.Constant(0.3)},
        shapes=((2, 4, 4, 3), (2, 5, 3)),
        weights=("alpha", "gamma", "beta"),
        smooth=True,
        oracle=dynamic_tanh,
        inference="kept",
        float_ops={"MUL": 1, "TANH": 1, "ADD": 1},
    ),
    Case(
        FakeQuantization,
        kwargs={"momentum": 0.9},
        shapes=((2, 4, 4, 3), (2, 3, 2, 2, 3)),
        state=("minimum", "maximum"),
        training=True,
        sees_batch=True,
        oracle=fake_quantization,
        inference="kept",
        float_ops={"DEQUANTIZE": 1},
    ),
)
