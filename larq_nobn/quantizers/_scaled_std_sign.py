from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_flag
from .._keras import register
from .._math import at_least_float32, fused, unit_sum, with_gradient
from ._balance import halving_thresholds
from ._filters import (
    measured_filters,
    signed,
    standardization_factor,
    standardization_gradient,
)
from ._kernel_quantizer import StandardizedKernel


@fused
def _products(
    upstream: tf.Tensor, columns: tf.Tensor, mean: tf.Tensor, center: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns upstream·(W-μ) and upstream·sign(W-center)."""
    g, latent = at_least_float32(upstream), at_least_float32(columns)
    return g * (latent - mean), tf.where(latent >= center, g, -g)


@with_gradient
def scaled_std_sign(
    kernel: tf.Tensor,
    gain: tf.Tensor,
    *,
    scale: float,
    epsilon: float,
    variance_preserving: bool,
    balanced: bool,
    power_of_two: bool,
) -> tuple[tf.Tensor, Callable]:
    """Computes the binary kernel, with its pseudo-gradient as one fused expression."""
    filters = measured_filters(kernel, deviation=not variance_preserving)
    center = halving_thresholds(filters) if balanced else filters.mean
    if variance_preserving:
        magnitude = tf.constant(filters.columns.shape[0] ** -0.5, gain.dtype)
    else:
        magnitude = (
            standardization_factor(filters, epsilon) * filters.absolute_deviation
        )
    amplitude = scale * (magnitude * gain)
    if power_of_two:
        exponent = tf.round(tf.math.log(tf.abs(amplitude)) / math.log(2))
        power = tf.pow(tf.cast(2, gain.dtype), exponent)
        amplitude = tf.where(amplitude < 0, -power, power)
        gain = tf.math.divide_no_nan(amplitude, scale * magnitude)
    value = signed(filters.columns, center, amplitude)

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        g = tf.reshape(upstream, filters.columns.shape)
        with_offset, with_sign = _products(g, filters.columns, filters.mean, center)
        inner = unit_sum(with_offset)
        d_kernel = standardization_gradient(g, inner, filters, scale * gain, epsilon)
        d_gain = scale * (magnitude * unit_sum(with_sign))
        return tf.reshape(d_kernel, kernel.shape), d_gain

    return tf.reshape(value, kernel.shape), grad


@register("scaled_std_sign")
class ScaledStdSign(StandardizedKernel):
    r"""Binary kernel of BNN-BN: the sign of the standardized filter, with its scale.

    For a filter \(W_o\) of \(N\) weights with mean \(\mu_o\) and population standard
    deviation \(\sigma_o\),

    \[ \hat w_o = \frac{W_o - \mu_o}{\sqrt N(\sigma_o + \epsilon)}, \qquad
       s_o = \operatorname{mean}|\hat w_o|, \qquad
       w_o = a\, \gamma_o\, s_o \operatorname{sign}(\hat w_o), \]

    with sign(0) = +1, gain \(\gamma_o\) and fixed scale \(a\). The pseudo-gradient
    replaces \(s_o \operatorname{sign}(\hat w_o)\) by \(\hat w_o\), and treats \(s_o\)
    as constant:

    \[ \frac{\partial L}{\partial \hat w_o} = a\,\gamma_o\, g, \qquad
       \frac{\partial L}{\partial \gamma_o}
       = a\, s_o \sum g\, \operatorname{sign}(\hat w_o), \]

    continued through the standardization as in `ScaledStandardization`. Since
    \(|\hat w| < 1\) in every filter, no clipping and no `kernel_constraint` is needed.
    The value and both gradients are `scale` times those at `scale=1`, so a residual
    block can fold its α into it. At inference: **removed**; the magnitude becomes the
    multiplier of the binary convolution.

    Arguments:
        gain: Whether to learn one factor per output channel, starting at 1.
        scale: Fixed positive factor a.
        epsilon: Added to the standard deviation; in units of the weights, positive.
        variance_preserving: Whether \(s_o = N^{-1/2}\), so that N independent ±1 inputs
            give an output of variance (aγ)² rather than about 0.7 (aγ)². Networks have
            True.
        balanced: Whether the threshold is the median instead of the mean, so that a
            filter of even N has as many +1 as -1. The gradient remains that of the
            mean. Networks have True.
        power_of_two: Whether \(a \gamma_o s_o\) is rounded to \(\pm 2^k\), in the
            logarithm and halves to even, so that a shift of bits replaces the
            multiplication. \(\gamma_o\) is then the gain of the rounded value, and its
            gradient passes to the learned one unchanged.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gain_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        gain: Shape (C,), C the output channels; only with `gain=True`.

    Input shape:
        A kernel whose last axis contains the output channels: Conv1D to Conv3D, Dense.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, another kernel,
            filters of one weight, or one object given to layers of different kernel
            shape.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer=nobn.quantizers.RSign(),
            kernel_quantizer=nobn.quantizers.ScaledStdSign(scale=0.2),
        )
        ```

    References:
        - T. Chen, Z. Zhang, X. Ouyang, Z. Liu, Z. Shen, Z. Wang, '"BNN - BN = ?":
          Training Binary Neural Networks without Batch Normalization', CVPR Workshops
          2021, arXiv:2104.08215.
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739 (networks without multiplications).

    Differences from the paper:
        The paper multiplies the pseudo-gradient by \(s_o\); here, as in its code, it is
        not. PyTorch's sign(0) = 0 becomes +1. `scale`, `variance_preserving`,
        `balanced` and `power_of_two` are additions; their defaults change nothing. The
        published code of A&B BNN does not round its gains.
    """

    precision = 1
    _in_config = "variance_preserving balanced power_of_two"

    def __init__(
        self,
        gain: bool = True,
        scale: float = 1.0,
        epsilon: float = 1e-5,
        variance_preserving: bool = False,
        balanced: bool = False,
        power_of_two: bool = False,
        **kwargs: Any,
    ):
        super().__init__(gain=gain, scale=scale, epsilon=epsilon, **kwargs)
        self.variance_preserving = check_flag(
            "variance_preserving", variance_preserving
        )
        self.balanced = check_flag("balanced", balanced)
        self.power_of_two = check_flag("power_of_two", power_of_two)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        value = scaled_std_sign(
            inputs,
            self._gain_for(inputs),
            scale=self.scale,
            epsilon=self.epsilon,
            variance_preserving=self.variance_preserving,
            balanced=self.balanced,
            power_of_two=self.power_of_two,
        )
        return self._measured(value)
