from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_flag, check_number
from .._keras import register, weight_of
from .._larq import lq
from .._math import at_least_float32, beside, fused, product
from ._measured import MeasuredQuantizer

# Bounds of a learned beta. Below, the function is hardly a step; above, its gradient is
# nearly 0 everywhere.
SMALLEST, LARGEST = 1.0, 20.0


def sign_swish_slope(x: tf.Tensor, beta: tf.Tensor | float) -> tf.Tensor:
    """Returns the derivative of SignSwish in x, in a form that does not overflow.

    The published form divides by 1 + cosh(βx), which overflows float32 at |βx| = 89.
    """
    # Beyond these bounds the slope is 0, but infinity times 0 would be NaN.
    t = tf.clip_by_value(beta * x, -750.0, 750.0)
    peak = tf.sigmoid(t) * tf.sigmoid(-t)
    return 2 * beta * peak * (2 - t * tf.tanh(t / 2))


@fused
def _gradient(upstream: tf.Tensor, x: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    return at_least_float32(upstream) * sign_swish_slope(at_least_float32(x), beta)


@tf.custom_gradient
def sign_swish(x: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Computes sign(x), with the gradients of SignSwish in x and β."""

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        d_x = _gradient(upstream, x, beta)
        # SignSwish is a function of βx.
        return tf.cast(d_x, x.dtype), tf.reduce_sum(product(d_x, x)) / beta

    return lq.math.sign(x), grad


def _clipped(beta: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(beta, SMALLEST, LARGEST)


@register("sign_swish")
class SignSwish(MeasuredQuantizer):
    r"""Sign with the pseudo-gradient of SignSwish (BNN+).

    \[ q(x) = \operatorname{sign}(x), \qquad
       \frac{\partial L}{\partial x} = g\, e(x), \qquad
       e(x) = 2\beta\,\sigma(t)\,(1-\sigma(t))\,(2 - t\tanh\tfrac t2), \quad
       t = \beta x, \]

    with sign(0) = +1; \(e\) is the derivative of \(2\sigma(t)(1 + t(1-\sigma(t))) -
    1\). It is β at zero, 0 at \(|t| = 2.4\) and slightly negative beyond. A learned
    β has \(\partial L/\partial\beta = \sum g\, e(x)\, x/\beta\). Both are finite for
    every finite input, in every precision. At inference: **removed**; the sign is part
    of the binary convolution.

    Arguments:
        beta: Positive steepness β, in units of 1/x; in [1, 20] if it is trainable.
        trainable_beta: Whether to learn β, one number per layer, limited to [1, 20] by
            a constraint.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Keras layer arguments, such as `name`.

    Weights:
        beta: Shape (), starts at the argument; only with `trainable_beta=True`.

    Input shape:
        Any, of activations or of a kernel.

    Output shape:
        The input shape; the values are -1 and +1.

    Raises:
        TypeError, ValueError: For a beta outside the ranges above, or one object with a
            trainable beta given to inputs of different rank or channel count.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer=nobn.quantizers.SignSwish(trainable_beta=True),
            kernel_quantizer="sign_swish",
        )
        ```

    References:
        - S. Darabi, M. Belbahri, M. Courbariaux, V. Partovi Nia, "Regularized Binary
          Network Training" (first as "BNN+: Improved Binary Network Training"), 2018,
          arXiv:1812.11800.

    Differences from the paper:
        The paper divides by \(1 + \cosh t\), which overflows; the function is the same.
        The bounds of a learned β are an addition.
    """

    precision = 1
    beta_weight = weight_of("beta")
    _in_config = "beta=_initial_beta trainable_beta"

    def __init__(self, beta: float = 5.0, trainable_beta: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.trainable_beta = check_flag("trainable_beta", trainable_beta)
        allowed = f"[{SMALLEST:g}, {LARGEST:g}]" if trainable_beta else "(0, inf)"
        self._initial_beta = check_number("beta", beta, allowed, "Start with 5.")
        self.beta: Any = self._initial_beta

    def build(self, input_shape: tf.TensorShape) -> None:
        if self.trainable_beta:
            start = self._initial_beta
            self.beta = self.add_weight("beta", (), start, constraint=_clipped)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.trainable_beta:
            self._check_owner(inputs, lambda shape: (len(shape), shape[-1]))
        return self._measured(sign_swish(inputs, beside(inputs, self.beta)))
