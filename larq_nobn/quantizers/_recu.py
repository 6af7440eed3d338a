from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import keras, register, weight_of
from .._math import at_least_float32, beside, fused, unit_sum, with_gradient
from ._filters import Filters, centered_gradient, measured_filters, signed
from ._kernel_quantizer import KernelQuantizer

_EPSILON = 1e-5  # added to the variance
_SPREAD = 2 * math.sqrt(2)  # standard deviation of a standardized filter


def clamp_limits(
    filters: Filters, tau: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns variance, factor of W-μ, and limit of |W-μ| of every filter.

    Weights further from the mean are beyond the quantile and are clamped.
    """
    count = float(filters.columns.shape[0])
    variance = tf.square(filters.sigma) * count / (count - 1) + _EPSILON
    factor = _SPREAD * tf.math.rsqrt(variance)
    magnitudes = filters.absolute_deviation * factor
    # Their mean is b, one number for the whole layer.
    quantile = -tf.math.log(2 - 2 * tau) * tf.reduce_mean(magnitudes)
    return variance, factor, quantile / factor


@fused
def _products(
    upstream: tf.Tensor, columns: tf.Tensor, mean: tf.Tensor, limit: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the gradient inside the clamp, that times W-μ, and upstream·sign(W-μ)."""
    g, offset = at_least_float32(upstream), at_least_float32(columns) - mean
    inside = tf.where(tf.abs(offset) <= limit, g, tf.zeros_like(g))
    return inside, inside * offset, tf.where(offset >= 0, g, -g)


@with_gradient
def recu(
    kernel: tf.Tensor, alpha: tf.Tensor, *, tau: tf.Tensor
) -> tuple[tf.Tensor, Callable]:
    """Computes alpha·sign(W - μ), with the clamp's pseudo-gradient, fused."""
    filters = measured_filters(kernel, deviation=True)
    value = signed(filters.columns, filters.mean, alpha)

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        g = tf.reshape(upstream, filters.columns.shape)
        count = float(filters.columns.shape[0])
        variance, factor, limit = clamp_limits(filters, tau)
        inside, with_offset, with_sign = _products(
            g, filters.columns, filters.mean, limit
        )
        along = unit_sum(with_offset) / ((count - 1) * variance)
        d_kernel = centered_gradient(inside, filters, alpha * factor, along)
        return tf.reshape(d_kernel, kernel.shape), unit_sum(with_sign)

    return tf.reshape(value, kernel.shape), grad


@register("recu")
class ReCU(KernelQuantizer):
    r"""Binary kernel of ReCU: clamps latent weights in the tails of the layer.

    For a filter \(W_o\) of \(N\) weights with mean \(\mu_o\) and unbiased variance
    \(v_o\), and for \(b\), the mean of \(|\hat w|\) over the whole layer,

    \[ \hat w_o = 2\sqrt 2 \, \frac{W_o - \mu_o}{\sqrt{v_o + 10^{-5}}}, \qquad
       Q = -b \ln(2 - 2\tau), \qquad
       w_o = \alpha_o \operatorname{sign}(\operatorname{clip}(\hat w_o, -Q, Q))
           = \alpha_o \operatorname{sign}(W_o - \mu_o), \]

    with sign(0) = +1. \(\pm Q\) are the τ and 1−τ quantiles of Laplace weights. The
    pseudo-gradient replaces the sign by the identity and treats \(Q\) as constant. With
    upstream gradient \(g\), \(h = g \, 1[|\hat w| \le Q]\), \(d = W_o - \mu_o\) and
    means over the filter,

    \[ \frac{\partial L}{\partial W_o} = \frac{2\sqrt 2\,\alpha_o}{\sqrt{v_o + 10^{-5}}}
       \Big( h - \bar h - d \, \frac{\sum h d}{(N-1)(v_o + 10^{-5})} \Big),
       \qquad
       \frac{\partial L}{\partial \alpha_o} = \sum g \operatorname{sign}(d) . \]

    These are the gradients of a convolution with the signs whose output is multiplied
    by \(\alpha_o\). τ affects only gradients, so training and inference compute the
    same. No `kernel_constraint` is needed. At inference: **removed**; α becomes the
    multiplier of the binary convolution.

    Arguments:
        tau: Upper quantile in (0.5, 1); weights beyond it are clamped. Increase it from
            0.85 to 0.99 during training, with `quantizer.tau.assign`.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `alpha_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        alpha: Shape (C,), C the output channels; starts uniform in [0, 1).
        tau: Shape (), not trained, saved with the model.

    Input shape:
        A kernel whose last axis contains the output channels: Conv1D to Conv3D, Dense.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For a tau outside its range, another kernel, filters of
            one weight, or one object given to layers of different kernel shape.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer="approx_sign",
            kernel_quantizer=nobn.quantizers.ReCU(tau=0.85),
        )
        ```

    References:
        - Z. Xu, M. Lin, J. Liu, J. Chen, L. Shao, Y. Gao, Y. Tian, R. Ji, "ReCU:
          Reviving the Dead Weights in Binary Neural Networks", ICCV 2021,
          arXiv:2103.12369.

    Differences from the paper:
        As in the published code, the quantiles come from the Laplace formula with one
        \(b\) per layer, not from sorting, and the stored weights are never clamped. α
        multiplies the kernel instead of the output. PyTorch's sign(0) = 0 becomes +1.
        The standardization of activations is the layer `ActivationStandardization`.
    """

    precision = 1
    latent_limit = None
    by_filter = True
    tau_weight = weight_of("tau")
    _in_config = "tau=_initial_tau"
    _tunable = "alpha"

    def __init__(self, tau: float = 0.85, **kwargs: Any):
        super().__init__(**kwargs)
        self.tau = self._initial_tau = check_number(
            "tau", tau, "(0.5, 1)", "Use 0.85 to start and 0.99 to end."
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        shape = tf.TensorShape(input_shape)
        self._check_filters(shape)
        uniform = keras.initializers.RandomUniform(0, 1)
        self.alpha = self.add_weight("alpha", (shape[-1],), uniform)
        self.tau = self.add_weight("tau", (), self._initial_tau, trainable=False)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self._check_owner(inputs)
        alpha, tau = beside(inputs, self.alpha), beside(inputs, self.tau)
        return self._measured(recu(inputs, alpha, tau=tau))
