"""Changes layers so that of x / f they make y / g, where of x they made y.

x and y are the input and the output, f and g positive numbers: `taken` and `given`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ...._keras import keras
from ....layers import ThresholdedLinearUnit
from .._inference import BinaryConvolution, PlainAffine, PlainRPReLU


def fit_sign(sign: Any, taken: float, given: float) -> None:
    """With g = 1: sign(x + b) = sign(x / f + b / f), and sign(x) = sign(x / f)."""
    if getattr(sign, "shift", None) is not None:
        sign.shift = sign.shift / taken


def fit_rprelu(layer: PlainRPReLU, taken: float, given: float) -> None:
    """With g = f, since PReLU(x / f) = PReLU(x) / f."""
    layer.shift_in = layer.shift_in / taken
    layer.shift_out = layer.shift_out / given


def fit_threshold(layer: ThresholdedLinearUnit, taken: float, given: float) -> None:
    """With g = f, since max(x / f, τ / f) = max(x, τ) / f."""
    _multiply(layer.tau, 1 / given)


def fit_affine(layer: PlainAffine, taken: float, given: float) -> None:
    if taken != given:
        gain = 1.0 if layer.gain is None else layer.gain
        layer.gain = tf.constant(gain * (taken / given))
    if layer.offset is not None:
        layer.offset = layer.offset / given


def fit_kernel(layer: keras.layers.Layer, taken: float, given: float) -> None:
    """The real-valued kernel takes both factors, or g alone behind a sign."""
    sign = getattr(layer, "input_quantizer", None)
    fit_sign(sign, taken, 1.0)
    kernel = getattr(layer, "depthwise_kernel", None)
    kernel = layer.kernel if kernel is None else kernel
    _multiply(kernel, (taken if sign is None else 1.0) / given)
    if layer.use_bias:
        _multiply(layer.bias, 1 / given)


def fit_binary_convolution(
    layer: BinaryConvolution, taken: float, given: float
) -> None:
    """The kernel stays ±1; the sign takes f, scale and offset behind it take g."""
    fit_sign(layer.input_quantizer, taken, 1.0)
    if given == 1:
        return
    scale = tf.ones(layer.filters) if layer.scale is None else layer.scale
    layer.scale = scale / given
    if layer.offset is not None:
        layer.offset = layer.offset / given


def _multiply(variable: Any, factor: float) -> None:
    variable.assign(variable * factor)
