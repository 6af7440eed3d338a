"""Changes layers so that of x - s they make y - t, where of x they made y.

x and y are the input and the output, s and t shifts of their channels: `taken` and
`given`. What is then left to add is None if it is nothing, so that no addition remains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ...._keras import keras
from ....layers import ThresholdedLinearUnit
from .._inference import (
    BinaryConvolution,
    PlainGroupNormalization,
    PlainRPReLU,
    ShiftedSign,
)
from ._forms import is_close


def values(shift: Any, channels: int) -> np.ndarray:
    """A shift of a layer in float64, zeros for None."""
    if shift is None:
        return np.zeros(channels)
    return np.broadcast_to(np.asarray(shift, np.float64), (channels,))


def gains(gain: Any, channels: int) -> np.ndarray:
    """The gain of a layer in float64, ones for None."""
    return values(1.0 if gain is None else gain, channels)


def fit_sign(sign: ShiftedSign, taken: np.ndarray, given: np.ndarray) -> None:
    """With t = 0: sign(x + b) = sign(x - s + b + s)."""
    if not np.any(taken):
        return  # the smallest of shifts counts, where it makes -1 of the sign of 0
    sign.shift = _sum(values(sign.shift, len(taken)), taken)


def fit_rprelu(layer: PlainRPReLU, taken: np.ndarray, given: np.ndarray) -> None:
    layer.shift_in = _sum(values(layer.shift_in, len(taken)), taken)
    layer.shift_out = _sum(values(layer.shift_out, len(given)), -given)


def fit_threshold(
    layer: ThresholdedLinearUnit, taken: np.ndarray, given: np.ndarray
) -> None:
    """With t = s, since max(x - s, τ - s) = max(x, τ) - s."""
    layer.tau.assign(layer.tau - tf.constant(taken, tf.float32))


def fit_affine(layer: Any, taken: np.ndarray, given: np.ndarray) -> None:
    """gain (x - s) + offset + gain s - t."""
    gain = gains(layer.gain, len(taken))
    layer.offset = _sum(values(layer.offset, len(given)), gain * taken, -given)


def fit_group_norm(
    layer: PlainGroupNormalization, taken: np.ndarray, given: np.ndarray
) -> None:
    """With s = 0, since the statistics are those of x."""
    layer.beta = _sum(values(layer.beta, len(given)), -given)


def fit_binary_convolution(
    layer: BinaryConvolution, taken: np.ndarray, given: np.ndarray
) -> None:
    if type(layer.input_quantizer) is ShiftedSign:
        fit_sign(layer.input_quantizer, taken, given)
    layer.offset = _sum(values(layer.offset, len(given)), -given)


def fit_kernel(layer: keras.layers.Layer, taken: np.ndarray, given: np.ndarray) -> None:
    """The bias takes what the kernel makes of s, and t; s ends at a sign before it."""
    sign = getattr(layer, "input_quantizer", None)
    if type(sign) is ShiftedSign:
        fit_sign(sign, taken, given)
        taken = np.zeros_like(taken)
    passed = _through_kernel(layer, taken) if np.any(taken) else 0.0
    added = tf.constant(passed - given, tf.float32)
    if not np.any(added):
        return
    if not layer.use_bias:
        layer.bias = layer.add_weight("bias", added.shape, initializer="zeros")
        layer.use_bias = True
    layer.bias.assign(layer.bias + added)


def _through_kernel(layer: keras.layers.Layer, shift: np.ndarray) -> np.ndarray:
    kernel = getattr(layer, "depthwise_kernel", None)
    if kernel is not None:  # (height, width, channels, multiplier)
        sums = kernel.numpy().astype(np.float64).sum((0, 1))
        return (sums * shift[:, None]).reshape(-1)
    kernel = layer.kernel.numpy().astype(np.float64)
    return shift @ kernel.reshape(-1, *kernel.shape[-2:]).sum(0)


def _sum(*parts: np.ndarray) -> tf.Tensor | None:
    first, *others = parts
    total = np.sum(parts, axis=0)
    if is_close(first, -np.sum(others, axis=0)):
        return None
    return tf.constant(total, tf.float32)
