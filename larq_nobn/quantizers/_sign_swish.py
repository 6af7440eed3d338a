from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_flag, check_number
from .._keras import register
from .._larq import lq
from .._math import at_least_float32, beside, fused, product
from ._measured import MeasuredQuantizer

# Where a learned beta is kept. Below, hardly anything is left of the step; above, of
# the gradient.
SMALLEST, LARGEST = 1.0, 20.0


def sign_swish_slope(x: tf.Tensor, beta: tf.Tensor | float) -> tf.Tensor:
    """The derivative of SignSwish in x, in a form in which nothing overflows.

    The published one divides by 1 + cosh(βx), beyond float32 from |βx| = 89 on.
    """
    # Further out the slope is 0 in every precision, but 0 times infinity would not be.
    t = tf.clip_by_value(beta * x, -750.0, 750.0)
    peak = tf.sigmoid(t) * tf.sigmoid(-t)
    return 2 * beta * peak * (2 - t * tf.tanh(t / 2))


@fused
def _gradient(upstream: tf.Tensor, x: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
    return at_least_float32(upstream) * sign_swish_slope(at_least_float32(x), beta)


@tf.custom_gradient
def sign_swish(x: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """sign(x), whose gradients in x and β are those of SignSwish."""

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        d_x = _gradient(upstream, x, beta)
        # SignSwish depends on x and β by βx and not otherwise.
        return tf.cast(d_x, x.dtype), tf.reduce_sum(product(d_x, x)) / beta

    return lq.math.sign(x), grad


def _kept(beta: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(beta, SMALLEST, LARGEST)


@register("sign_swish")
class SignSwish(MeasuredQuantizer):
    r"""Sign with the pseudo-gradient of SignSwish (BNN+).

    \[ q(x) = \operatorname{sign}(x), \qquad
       \frac{\partial L}{\partial x} = g\, e(x), \qquad
       e(x) = 2\beta\,\sigma(t)\,(1-\sigma(t))\,(2 - t\tanh\tfrac t2), \quad
       t = \beta x, \]

    with sign(0) = +1; \(e\) is the derivative of \(2\sigma(t)(1 + t(1-\sigma(t))) -
    1\). It is β at zero, 0 at \(|t| = 2.4\) and a little negative beyond. A learned
    β has \(\partial L/\partial\beta = \sum g\, e(x)\, x/\beta\). Both are finite for
    every finite input, in every precision. At inference: **removed**; the sign is
    part of the binary convolution, and β is not needed there.

    Arguments:
        beta: Positive steepness β, in units of 1/x; in [1, 20] if it is trainable.
        trainable_beta: Whether to learn β, one number for the layer; a constraint keeps
            it in [1, 20].
        metrics: Larq's, `["flip_ratio"]` or none; None takes those of its
            `metrics_scope`.
        **kwargs: Keras layer arguments, such as `name`.

    Weights:
        beta: Shape (), starts at the argument; only with `trainable_beta=True`.

    Input shape:
        Any, of activations or of a kernel.

    Output shape:
        The input shape; the values are -1 and +1.

    Raises:
        TypeError, ValueError: For a beta outside the ranges above, or one object that
            owns a beta and is given to inputs of different rank or channel count.

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
            self.beta = self.add_weight("beta", (), start, constraint=_kept)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.trainable_beta:
            self._check_owner(inputs, lambda shape: (len(shape), shape[-1]))
        return self._measured(sign_swish(inputs, beside(inputs, self.beta)))
