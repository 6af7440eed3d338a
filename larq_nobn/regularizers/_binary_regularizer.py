from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_choice, check_number
from .._keras import keras, register
from .._math import at_least_float32
from ._penalties import binary_penalty, check_order, check_strength, median


@register()
class BinaryRegularizer(keras.regularizers.Regularizer):
    r"""Penalizes the distance of latent magnitudes from a common scale (BNN+).

    \[ R_1 = \lambda \sum \big| \alpha - |w| \big|, \qquad
       R_2 = \lambda \sum (\alpha - |w|)^2, \]

    with strength \(\lambda\), a sum over all weights of the kernel, and a scale
    \(\alpha\) that is a number or taken from the kernel itself, as a constant for the
    gradient:

    \[ \frac{\partial R_1}{\partial w} = -\lambda \operatorname{sign}(\alpha - |w|)
       \operatorname{sign}(w), \qquad
       \frac{\partial R_2}{\partial w} = -2\lambda\,(\alpha - |w|)
       \operatorname{sign}(w) . \]

    A learned scale belongs to a quantizer: see `quantizers.BinaryRegularized`.
    At inference: **removed**.

    Arguments:
        order: 1 or 2, the penalty's.
        strength: λ, not negative.
        scale: α: `"median"` or `"mean"` of the kernel's magnitudes, a positive number,
            or None for the one that makes the penalty smallest: the median for order 1,
            the mean for order 2.

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
        The paper learns α; here its closed form follows the weights. The default
        strength is a choice of this package.
    """

    def __init__(
        self, order: int = 1, strength: float = 1e-6, scale: str | float | None = None
    ):
        self.order = check_order(order)
        self.strength = check_strength(strength)
        if isinstance(scale, str):
            self.scale: str | float | None = check_choice(
                "scale", scale, ("median", "mean")
            )
        elif scale is None:
            self.scale = None
        else:
            advice = "Or use 'median', 'mean' or None, which depend on the kernel."
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
