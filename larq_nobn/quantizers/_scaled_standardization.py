from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from .._keras import register
from .._math import at_least_float32, fused, offset_product, unit_sum, with_gradient
from ._filters import measured_filters, standardization_factor, standardization_gradient
from ._kernel_quantizer import StandardizedKernel


@fused
def _value(columns: tf.Tensor, mean: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    value = (at_least_float32(columns) - mean) * factor
    return tf.cast(value, columns.dtype)


@with_gradient
def scaled_standardization(
    kernel: tf.Tensor, gain: tf.Tensor, *, scale: float, epsilon: float
) -> tuple[tf.Tensor, Callable]:
    """Computes the standardized kernel, with its gradient as one fused expression."""
    filters = measured_filters(kernel)
    factor = standardization_factor(filters, epsilon)
    value = _value(filters.columns, filters.mean, scale * gain * factor)

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        g = tf.reshape(upstream, filters.columns.shape)
        inner = unit_sum(offset_product(g, filters.columns, filters.mean))
        d_kernel = standardization_gradient(g, inner, filters, scale * gain, epsilon)
        return tf.reshape(d_kernel, kernel.shape), scale * factor * inner

    return tf.reshape(value, kernel.shape), grad


@register("scaled_standardization")
class ScaledStandardization(StandardizedKernel):
    r"""Real-valued kernel with standardized filters and a learned gain.

    For a filter \(W_o\) of \(N\) weights with mean \(\mu_o\) and population standard
    deviation \(\sigma_o\), the layer uses

    \[ w_o = \gamma_o \, a \, \frac{W_o - \mu_o}{\sqrt N (\sigma_o + \epsilon)} , \]

    where \(\gamma_o\) is the gain and \(a\) the scale. With \(d = W_o - \mu_o\),
    upstream gradient \(g\) and means over the filter, the exact gradients are

    \[ \frac{\partial L}{\partial W_o} = \frac{\gamma_o a}{\sqrt N(\sigma_o+\epsilon)}
       \Big( g - \bar g - d \, \frac{\overline{g d}}{\sigma_o(\sigma_o+\epsilon)} \Big),
       \qquad
       \frac{\partial L}{\partial \gamma_o} =
       \frac{a \sum g d}{\sqrt N (\sigma_o + \epsilon)} . \]

    A constant filter (\(\sigma_o = 0\)) gives a zero kernel, and a finite gradient
    without the last term. At inference: **removed**; the converted file contains the
    kernel as a constant.

    Arguments:
        gain: Whether to learn one factor per output channel, starting at 1.
        scale: Fixed positive factor. 1 after a sign, 1.7128585 after a ReLU.
        epsilon: Added to the standard deviation; in units of the weights, positive.
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

        stem = lq.layers.QuantConv2D(
            64, 3, kernel_quantizer=nobn.quantizers.ScaledStandardization()
        )
        ```

    References:
        - A. Brock, S. De, S. L. Smith, "Characterizing signal propagation to close the
          performance gap in unnormalized ResNets", ICLR 2021, arXiv:2101.08692.

    Differences from the paper:
        Epsilon is added to the standard deviation, as in the published PyTorch code,
        not under the root. Transposed convolutions, whose output channels are on
        another axis, are not supported.
    """

    precision = 32

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        gain = self._gain_for(inputs)
        value = scaled_standardization(
            inputs, gain, scale=self.scale, epsilon=self.epsilon
        )
        return self._measured(value)
