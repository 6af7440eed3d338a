from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_flag
from .._keras import register
from .._math import at_least_float32, beside, channel_sum, fused
from ._channelwise import ChannelwiseLayer


def spelled_prelu(z: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Computes PReLU in the form that TFLite recognizes as its PRELU operation."""
    leak = tf.reshape(-slope, (1,) * (z.shape.rank - 2) + (-1,))
    return tf.nn.relu(z) + leak * tf.nn.relu(-z)


@fused
def _value(
    x: tf.Tensor, shift_in: tf.Tensor, slope: tf.Tensor, shift_out: tf.Tensor
) -> tf.Tensor:
    z = at_least_float32(x) + shift_in
    return tf.cast(spelled_prelu(z, slope) + shift_out, x.dtype)


@fused
def _products(
    upstream: tf.Tensor, x: tf.Tensor, shift_in: tf.Tensor, slope: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradient of x, and that of the slope at every position."""
    g, z = at_least_float32(upstream), at_least_float32(x) + shift_in
    d_x, d_slope = tf.where(z > 0, g, slope * g), g * tf.minimum(z, 0)
    return tf.cast(d_x, x.dtype), tf.cast(d_slope, x.dtype)


@tf.custom_gradient
def rprelu(
    x: tf.Tensor, shift_in: tf.Tensor, slope: tf.Tensor, shift_out: tf.Tensor
) -> tuple[tf.Tensor, Callable]:
    """Computes PReLU(x + shift_in; slope) + shift_out, with one fused gradient."""

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        d_x, d_slope = _products(upstream, x, shift_in, slope)
        return d_x, channel_sum(d_x), channel_sum(d_slope), channel_sum(upstream)

    return _value(x, shift_in, slope, shift_out), grad


@tf.custom_gradient
def power_of_two(logarithm: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Computes 2^round(L), halves to even; its gradient ignores the rounding."""
    power = tf.pow(tf.cast(2, logarithm.dtype), tf.round(logarithm))
    return power, lambda upstream: upstream * power * math.log(2)


@register()
class RPReLU(ChannelwiseLayer):
    r"""PReLU between two learned shifts per channel, the activation of ReActNet.

    \[ z = x + b_c, \qquad y = \max(z, 0) + a_c \min(z, 0) + d_c . \]

    With upstream gradient \(g\) and sums over the batch and all positions,
    \(\partial L/\partial x = g\) where \(z > 0\), else \(a_c g\);
    \(\partial L/\partial b_c\) is the sum of that; \(\partial L/\partial a_c = \sum g
    \min(z, 0)\); \(\partial L/\partial d_c = \sum g\). With `power_of_two` the slope
    is \(a_c = 2^{\mathrm{round}(L_c)}\), halves to even, which hardware without
    multipliers computes by shifting bits; gradients ignore the rounding, so
    \(\partial L/\partial L_c = \ln 2\, a_c\, \partial L/\partial a_c\). Exclude L from
    weight decay, which would pull the slope to 1. At inference: **kept**, as one
    PRELU; the shifts fold into neighboring layers where possible.

    Arguments:
        power_of_two: Whether slopes are powers of two, whose logarithm is learned.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `slope_constraint`, and Keras layer arguments, such as `name`.

    Weights:
        shift_in: b, shape (C,), starts at 0.
        slope: a, shape (C,), starts at 0.25; only with `power_of_two=False`.
        log2_slope: L, shape (C,), starts at -3; only with `power_of_two=True`.
        shift_out: d, shape (C,), starts at 0.

    Input shape:
        (batch, ..., C), of any rank from 2.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For a power_of_two that is not a flag, or an unknown
            number of channels.

    Example:
        ```python
        import tensorflow as tf
        import larq_nobn as nobn

        y = nobn.layers.RPReLU()(tf.constant([[-2.0, 2.0]]))  # [[-0.5, 2.0]]
        ```

    References:
        - Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, "ReActNet: Towards Precise Binary
          Neural Network with Generalized Activation Functions", ECCV 2020,
          arXiv:2003.03488.
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739 (the power of two).

    Differences from the paper:
        The paper subtracts the first shift; as in its code, it is added here.
    """

    _in_config = "power_of_two"
    _tunable = "shift_in slope log2_slope shift_out"

    def __init__(self, power_of_two: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.power_of_two = check_flag("power_of_two", power_of_two)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.shift_in = self.add_channel_weight("shift_in", 0.0, input_shape)
        if self.power_of_two:
            self.log2_slope = self.add_channel_weight("log2_slope", -3.0, input_shape)
        else:
            self.slope = self.add_channel_weight("slope", 0.25, input_shape)
        self.shift_out = self.add_channel_weight("shift_out", 0.0, input_shape)
        super().build(input_shape)

    def effective_slope(self) -> tf.Tensor:
        """Returns the slope a that the weights define, (C,)."""
        if self.power_of_two:
            return power_of_two(at_least_float32(tf.convert_to_tensor(self.log2_slope)))
        return tf.convert_to_tensor(self.slope)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        weights = (self.shift_in, self.effective_slope(), self.shift_out)
        return rprelu(inputs, *(beside(inputs, weight) for weight in weights))
