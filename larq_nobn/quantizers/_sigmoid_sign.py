from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import register
from .._math import at_least_float32
from ._measured import MeasuredQuantizer, sign_with_slope


def sigmoid_slope(x: tf.Tensor, slope: tf.Tensor | float) -> tf.Tensor:
    """Computes 2a·σ(ax)(1-σ(ax)), with 1-σ(t) as σ(-t), which is exact at large t."""
    t = slope * x
    return 2 * slope * tf.sigmoid(t) * tf.sigmoid(-t)


@register("sigmoid_sign")
class SigmoidSign(MeasuredQuantizer):
    r"""Sign with the pseudo-gradient of a scaled logistic function.

    \[ q(x) = \operatorname{sign}(x), \qquad
       \frac{\partial L}{\partial x} = g\, 2a\, \sigma(a x)\,(1 - \sigma(a x)), \]

    the derivative of \(2\sigma(ax) - 1\), with sign(0) = +1 and slope \(a\). It is
    a/2 at zero and positive everywhere, so every input has a gradient; its integral is
    2, the height of the step. `RSign(estimator="sigmoid_sign")` is the same, with slope
    3, as an activation with a learned threshold. At inference: **removed**; the sign is
    part of the binary convolution.

    Arguments:
        slope: Positive factor a, in units of 1/x; larger factors give narrower slopes.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Keras layer arguments, such as `name`.

    Input shape:
        Any, of activations or of a kernel.

    Output shape:
        The input shape; the values are -1 and +1.

    Raises:
        TypeError, ValueError: For a slope that is not a positive number.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer="sigmoid_sign", kernel_quantizer="scaled_std_sign",
        )
        ```

    References:
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739.

    Differences from the paper:
        PyTorch's sign(0) = 0 becomes +1. `slope` is an addition; 3 is the paper's.
    """

    precision = 1
    _in_config = "slope"

    def __init__(self, slope: float = 3.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.slope = check_number("slope", slope, "(0, inf)", "The paper's is 3.")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        slope = tf.constant(self.slope, at_least_float32(inputs).dtype)
        return self._measured(
            sign_with_slope(inputs, slope=sigmoid_slope, parameter=slope)
        )
