"""Mean and variance per channel of what a layer makes of independent normal values."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from .._keras import keras
from .._larq import kernel_in_layer, lq, unmeasured
from .._math import at_least_float32
from ._kalman import BatchKalmanNormalization
from ._proxy_moments import exact_moments
from ._rprelu import RPReLU

Moments = tuple[tf.Tensor, tf.Tensor]

ELEMENTWISE = (BatchKalmanNormalization, RPReLU, keras.layers.PReLU)


def is_sign(quantizer: Any) -> bool:
    """Tells whether a quantizer makes ±1 of what it gets."""
    other = (lq.quantizers.SteHeaviside, lq.quantizers.NoOp)
    one_bit = getattr(quantizer, "precision", None) == 1
    return one_bit and not isinstance(quantizer, other)


def _signed(sign: Any, mean: tf.Tensor, variance: tf.Tensor) -> Moments:
    # An RSign has both of these, the signs of Larq neither.
    scale, shift = getattr(sign, "scale", 1.0), getattr(sign, "shift", None)
    mean = scale * mean + (0.0 if shift is None else tf.cast(shift, mean.dtype))
    return sign_moments(mean, scale * deviation_of(variance))


def sign_moments(mean: tf.Tensor, deviation: tf.Tensor) -> Moments:
    """Of the sign of normal values."""
    expected = tf.math.erf(mean / deviation / math.sqrt(2))
    return expected, 1 - tf.square(expected)


def linear_moments(kernel: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> Moments:
    """Of a product with a kernel whose last axes are input and output channels."""
    taps = tuple(range(kernel.shape.rank - 2))
    sums = tf.reduce_sum(kernel, taps), tf.reduce_sum(tf.square(kernel), taps)
    return tuple(
        tf.linalg.matvec(total, moment, transpose_a=True)
        for total, moment in zip(sums, (mean, variance), strict=True)
    )


def deviation_of(variance: tf.Tensor) -> tf.Tensor:
    """The root; never 0, by which the moments divide and where it has no gradient."""
    return tf.sqrt(tf.maximum(variance, 1e-12))


def output_moments(
    layer: Any, activation: str | None, mean: tf.Tensor, variance: tf.Tensor
) -> Moments:
    """Of a layer's output when its input is `activation` of normal values.

    Arguments:
        layer: A built layer of one of the kinds above.
        activation: None, `"linear"`, `"relu"` or `"sign"`.
        mean, variance: Of the normal values, (C,) each.
    """
    mean, variance = at_least_float32(mean), at_least_float32(variance)

    def weight(value: Any) -> tf.Tensor:
        return tf.cast(value, mean.dtype)

    if isinstance(layer, BatchKalmanNormalization):
        share = variance / (variance + layer.epsilon)
        constant = tf.zeros_like(mean) + weight(layer.beta)
        return constant, tf.square(weight(layer.gamma)) * share
    if isinstance(layer, RPReLU):
        shifted = mean + weight(layer.shift_in)
        slope = weight(layer.effective_slope())
        moments = exact_moments(slope, shifted, deviation_of(variance))
        return moments[0] + weight(layer.shift_out), moments[1]
    if isinstance(layer, keras.layers.PReLU):
        slope = tf.reshape(weight(layer.alpha), [-1])
        return exact_moments(slope, mean, deviation_of(variance))
    if is_sign(layer):
        return _signed(layer, mean, variance)

    sign = getattr(layer, "input_quantizer", None)
    if is_sign(sign):
        mean, variance = _signed(sign, mean, variance)
    elif activation == "sign":
        mean, variance = sign_moments(mean, deviation_of(variance))
    elif activation == "relu":
        mean, variance = exact_moments(0.0, mean, deviation_of(variance))
    with unmeasured(getattr(layer, "kernel_quantizer", None)):
        kernel = weight(kernel_in_layer(layer, layer.kernel))
    mean, variance = linear_moments(kernel, mean, variance)
    return (mean + weight(layer.bias) if layer.use_bias else mean), variance
