from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_flag, check_number
from .._keras import register
from .._math import at_least_float32, fused, unit_sum, with_gradient
from ._kernel_quantizer import ScaledKernel


@fused
def _signed(kernel: tf.Tensor, amplitude: tf.Tensor, frequency: tf.Tensor) -> tf.Tensor:
    """Computes amplitude·sign(sin(frequency·W)), with sign(0) = +1."""
    wide = tf.sin(frequency * at_least_float32(kernel))
    value = tf.where(wide >= 0, amplitude, -amplitude)
    # A NaN stays one, as in Larq.
    return tf.cast(tf.where(tf.math.is_nan(wide), wide, value), kernel.dtype)


@fused
def _gradient(
    upstream: tf.Tensor, kernel: tf.Tensor, amplitude: tf.Tensor, frequency: tf.Tensor
) -> tf.Tensor:
    slope = frequency * tf.cos(frequency * at_least_float32(kernel))
    return tf.cast(at_least_float32(upstream) * amplitude * slope, kernel.dtype)


@with_gradient
def biper(
    kernel: tf.Tensor, gain: tf.Tensor, *, scale: float, frequency: float
) -> tuple[tf.Tensor, Callable]:
    """Computes scale·gain·sign(sin(frequency·W)), with the gradient of the sine."""
    f = tf.constant(frequency, gain.dtype)
    amplitude = scale * gain

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with_sign = _signed(kernel, tf.ones_like(gain), f) * upstream
        columns = tf.reshape(at_least_float32(with_sign), (-1, kernel.shape[-1]))
        d_kernel = _gradient(upstream, kernel, amplitude, f)
        return d_kernel, scale * unit_sum(columns)

    return _signed(kernel, amplitude, f), grad


@register("biper")
class BiPer(ScaledKernel):
    r"""Binary kernel of BiPer: the sign of a sine of the latent weights.

    \[ w_o = a\,s\,\gamma_o \operatorname{sign}(\sin f W_o), \qquad
       \frac{\partial L}{\partial W_o} = g\, a\, s\, \gamma_o\, f \cos f W_o, \qquad
       \frac{\partial L}{\partial \gamma_o}
         = a\, s \sum g \operatorname{sign}(\sin f W_o), \]

    with upstream gradient \(g\), frequency \(f\), fixed scale \(a\), \(s = 1\), gain
    \(\gamma_o\) of the filter and sign(0) = +1. The sign changes at every multiple of
    \(\pi/f\), so a step in either direction can change the sign of any latent weight,
    however large. The gradient is that of \(a s \gamma_o \sin f W_o\), which is 0
    half-way between two changes. No `kernel_constraint` is needed. Latent weights must
    start within \(\pi/f\) of zero, on both sides: in a 3x3 kernel with 16 channels all
    of Glorot's do, and 82 % of He's normal ones. At inference: **removed**; the factor
    becomes the multiplier of the binary convolution.

    Arguments:
        frequency: Positive f, in units of 1/W.
        gain: Whether to learn one factor per output channel, starting at 1.
        scale: Fixed positive factor a.
        variance_preserving: Whether \(s = N^{-1/2}\) for filters of N weights, so that
            N independent ±1 inputs give an output of variance (aγ)². Use it if no
            normalization follows the convolution: networks of `"nobn"` have True.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gain_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        gain: Shape (C,), C the output channels; only with `gain=True`.

    Input shape:
        A kernel whose last axis contains the output channels: Conv1D to Conv3D, Dense.
        Without a gain and `variance_preserving`, a kernel of any shape.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above, another kernel,
            or one object given to layers of different kernel shape.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer="approx_sign",
            kernel_quantizer=nobn.quantizers.BiPer(frequency=20.0),
        )
        ```

    References:
        - E. Vargas, C. Correa, C. Hinojosa, H. Arguello, "BiPer: Binary Neural
          Networks using a Periodic Function", CVPR 2024, arXiv:2404.01278.

    Differences from the paper:
        The paper trains in two stages, the first with the kernel \(\sin f W\); here the
        kernel is always binary, and the first of two `stages` of this package has other
        kernels. The gain multiplies the kernel instead of the output, and starts at 1
        instead of uniform in [0, 1). PyTorch's sign(0) = 0 becomes +1. `scale` and
        `variance_preserving` are additions. The published code also divides activations
        by their standard deviation, here the layer `ActivationStandardization`.
    """

    precision = 1
    _in_config = "frequency variance_preserving"

    def __init__(
        self,
        frequency: float = 20.0,
        gain: bool = True,
        scale: float = 1.0,
        variance_preserving: bool = False,
        **kwargs: Any,
    ):
        super().__init__(gain=gain, scale=scale, **kwargs)
        self.variance_preserving = check_flag(
            "variance_preserving", variance_preserving
        )
        self.by_filter = self._use_gain or self.variance_preserving
        self.frequency = check_number(
            "frequency", frequency, "(0, inf)", "The paper's is 20."
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        gain, scale = self._gain_for(inputs), self.scale
        if self.variance_preserving:
            scale *= inputs.shape[:-1].num_elements() ** -0.5
        value = biper(inputs, gain, scale=scale, frequency=self.frequency)
        return self._measured(value)
