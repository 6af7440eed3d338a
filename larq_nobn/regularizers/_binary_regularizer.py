from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_choice, check_number
from .._errors import InvalidValue
from .._keras import keras, register
from .._math import at_least_float32


def binary_penalty(kernel: tf.Tensor, scale: tf.Tensor, order: int) -> tf.Tensor:
    """Computes R1, Σ|scale - |w||, or R2, Σ(scale - |w|)², in float32 or better.

    A scale of shape (C,) belongs to the last axis of the kernel.
    """
    distance = scale - tf.abs(at_least_float32(kernel))
    return tf.reduce_sum(tf.abs(distance) if order == 1 else tf.square(distance))


def median(magnitudes: tf.Tensor) -> tf.Tensor:
    """Returns the median of a vector without negative numbers.

    The bits of such numbers, read as integers, have the same order, so the median is
    found bit by bit: in 31 passes, ten times as fast as sorting a kernel.
    """
    integer = tf.int64 if magnitudes.dtype == tf.float64 else tf.int32
    bits = tf.bitcast(magnitudes, integer)
    rank = (magnitudes.shape[0] - 1) // 2

    def count(are_below: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(are_below, tf.int32))

    # The largest integer with at most `rank` numbers below it.
    lower = tf.constant(0, integer)
    for bit in reversed(range(8 * integer.size - 1)):
        trial = lower + (1 << bit)
        lower = tf.where(count(bits < trial) <= rank, trial, lower)
    middle = tf.bitcast(lower, magnitudes.dtype)
    if magnitudes.shape[0] % 2:
        return middle
    above = tf.where(bits > lower, magnitudes, magnitudes.dtype.max)
    other = tf.where(count(bits <= lower) > rank + 1, middle, tf.reduce_min(above))
    return (middle + other) / 2


@register()
class BinaryRegularizer(keras.regularizers.Regularizer):
    r"""Penalizes the distance of latent magnitudes from a common scale (BNN+).

    \[ R_1 = \lambda \sum \big| \alpha - |w| \big|, \qquad
       R_2 = \lambda \sum (\alpha - |w|)^2, \]

    with strength \(\lambda\), a sum over all weights of the kernel, and a scale
    \(\alpha\) that is a number or computed from the kernel; the gradient treats it as a
    constant:

    \[ \frac{\partial R_1}{\partial w} = -\lambda \operatorname{sign}(\alpha - |w|)
       \operatorname{sign}(w), \qquad
       \frac{\partial R_2}{\partial w} = -2\lambda\,(\alpha - |w|)
       \operatorname{sign}(w) . \]

    For a learned scale, use `quantizers.BinaryRegularized`. At inference: **removed**.

    Arguments:
        order: 1 or 2, for the penalty R1 or R2.
        strength: λ, not negative.
        scale: α: `"median"` or `"mean"` of the kernel's magnitudes, a positive number,
            or None for the scale with the smallest penalty: the median for order 1, the
            mean for order 2.

    Raises:
        TypeError, ValueError: For arguments outside the ranges above.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, input_quantizer="ste_sign", kernel_quantizer="ste_sign",
            kernel_regularizer=nobn.regularizers.BinaryRegularizer(order=2),
        )
        ```

    References:
        - S. Darabi, M. Belbahri, M. Courbariaux, V. Partovi Nia, "Regularized Binary
          Network Training" (first called "BNN+: Improved Binary Network Training"),
          2018, arXiv:1812.11800.

    Differences from the paper:
        The paper learns α; here it is computed from the weights. The default strength
        is a choice of this package.
    """

    def __init__(
        self, order: int = 1, strength: float = 1e-6, scale: str | float | None = None
    ):
        if order not in (1, 2) or isinstance(order, bool):
            raise InvalidValue(
                f"order={order!r} is neither 1 nor 2. Use 1 for the sum of distances, "
                "2 for the sum of their squares."
            )
        self.order = int(order)
        advice = "It multiplies a sum over all weights; start with 1e-6."
        self.strength = check_number("strength", strength, "[0, inf)", advice)
        self.scale = scale
        if isinstance(scale, str):
            check_choice("scale", scale, ("median", "mean"))
        elif scale is not None:
            advice = "Use a positive number, 'median', 'mean' or None."
            self.scale = check_number("scale", scale, "(0, inf)", advice)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        kernel = at_least_float32(tf.convert_to_tensor(x))
        penalty = binary_penalty(kernel, self._scale_of(kernel), self.order)
        return self.strength * penalty

    def _scale_of(self, kernel: tf.Tensor) -> tf.Tensor:
        if isinstance(self.scale, float):
            return tf.constant(self.scale, kernel.dtype)
        magnitudes = tf.reshape(tf.stop_gradient(tf.abs(kernel)), (-1,))
        best = "median" if self.order == 1 else "mean"
        if (self.scale or best) == "median":
            return median(magnitudes)
        return tf.reduce_mean(magnitudes)

    def get_config(self) -> dict[str, Any]:
        return {"order": self.order, "strength": self.strength, "scale": self.scale}
