"""What a model computes between its layers, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from larq_nobn._keras import keras
from larq_nobn.graph._graph import Graph
from larq_nobn.quantizers import RSign


def tensors(model: keras.Model, images: np.ndarray, wanted: list) -> list[np.ndarray]:
    """The values of some tensors of a flat model, as Keras itself computes them."""
    actual = keras.Model(model.inputs, wanted)(images)
    return [tf.cast(value, tf.float64).numpy() for value in tf.nest.flatten(actual)]


def mean(value: np.ndarray) -> np.ndarray:
    return value.mean(axis=tuple(range(value.ndim - 1)))


def deviation(value: np.ndarray) -> np.ndarray:
    return value.std(axis=tuple(range(value.ndim - 1)))


def signs(model: keras.Model) -> list[tuple[Any, RSign]]:
    """What every RSign of a flat model reads, and the RSign."""
    actual = []
    for call in Graph(model).calls:
        sign = getattr(call.layer, "input_quantizer", call.layer)
        if isinstance(sign, RSign):
            actual.append((call.first_input, sign))
    return actual


def sign_inputs(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """What every RSign takes the sign of."""
    pairs = signs(model)
    values = tensors(model, images, [tensor for tensor, _ in pairs])
    return [
        sign.scale * value + (0.0 if sign.shift is None else sign.shift.numpy())
        for value, (_, sign) in zip(values, pairs, strict=True)
    ]
