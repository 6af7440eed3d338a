from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import register, weight_of
from .._math import beside
from ._measured import MeasuredQuantizer, sign_with_slope

# The slope of the root is limited below the first number, and 0 above the second.
_NEAR, _FAR = 0.1, 1.5


def check_power(value: object) -> float:
    """Returns `value` as a float if it is an allowed power of a root."""
    advice = "Start with 1, which is the straight-through estimator, and end with 3."
    return check_number("power", value, "[1, inf)", advice)


def reste_slope(x: tf.Tensor, power: tf.Tensor) -> tf.Tensor:
    """Returns the derivative of sign(x)|x|^(1/power), limited near zero and far out."""
    size = tf.abs(x)
    # Clipped although tf.where discards values: in gradients, 0 times infinity is NaN.
    root = tf.pow(tf.clip_by_value(size, _NEAR, _FAR), 1 / power - 1)
    slope = tf.where(size > _NEAR, root / power, root)
    return tf.where(size <= _FAR, slope, tf.zeros_like(slope))


@register("reste")
class ReSTE(MeasuredQuantizer):
    r"""Sign with the pseudo-gradient of a root function that approaches the sign.

    \[ q(x) = \operatorname{sign}(x), \qquad
       \frac{\partial L}{\partial x} = g\, e(x), \qquad
       e(x) = \begin{cases}
           m^{1/o - 1} & |x| \le m, \\
           \tfrac1o |x|^{1/o - 1} & m < |x| \le t, \\
           0 & |x| > t,
       \end{cases} \]

    the derivative of \(\operatorname{sign}(x)|x|^{1/o}\), with sign(0) = +1, power
    \(o\), \(m = 0.1\) and \(t = 1.5\). Up to m, a straight line replaces the root,
    which would be too steep. Power 1 is the straight-through estimator, with stable but
    inaccurate gradients; larger powers are closer to the sign and less stable. So
    `callbacks.PowerScheduler` increases the power during training. It affects only
    gradients. `RSign(estimator="reste")` is the same as an activation with a learned
    threshold. At inference: **removed**; the sign is part of the binary convolution.

    Arguments:
        power: Initial o, 1 or more.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Keras layer arguments, such as `name`.

    Weights:
        power: o, shape (), not trained, saved with the model.

    Input shape:
        Any, of activations or of a kernel.

    Output shape:
        The input shape; the values are -1 and +1.

    Raises:
        TypeError, ValueError: For a power that is not a number of 1 or more.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer=nobn.quantizers.RSign(estimator="reste"),
            kernel_quantizer=nobn.quantizers.ReSTE(),
        )
        ```

    References:
        - X.-M. Wu, D. Zheng, Z.-H. Liu, W.-S. Zheng, "Estimator Meets Equilibrium
          Perspective: A Rectified Straight Through Estimator for Binary Neural Networks
          Training", ICCV 2023, arXiv:2308.06689.

    Differences from the paper:
        m is that of the published code. That code also multiplies a binary kernel by
        the mean magnitude of its layer, one number that the next batch norm cancels;
        here it is absent. PyTorch's sign(0) = 0 becomes +1.
    """

    precision = 1
    latent_limit = None
    power_weight = weight_of("power")
    _in_config = "power=_initial_power"

    def __init__(self, power: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.power = self._initial_power = check_power(power)

    def build(self, input_shape: tf.TensorShape) -> None:
        start = self._initial_power
        self.power = self.add_weight("power", (), start, trainable=False)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        power = beside(inputs, self.power)
        return self._measured(
            sign_with_slope(inputs, slope=reste_slope, parameter=power)
        )
