from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_channels, check_choice, check_flag, check_number
from .._errors import InvalidValue
from .._keras import keras, once_positional, register, registered, weight_of
from .._larq import lq
from .._math import at_least_float32, beside, channel_sum, fused, with_gradient
from ._measured import MeasuredQuantizer
from ._reste import check_power, reste_slope
from ._sigmoid_sign import sigmoid_slope
from ._sign_swish import sign_swish_slope

# A pseudo-derivative of sign(z), or its name.
Estimator = str | Callable[[tf.Tensor], tf.Tensor]
# The pseudo-derivative of each estimator; the last also takes a power.
ESTIMATORS: dict[str, Callable[..., tf.Tensor]] = {
    "approx_sign": lambda z: tf.nn.relu(2 - tf.abs(z + z)),
    "ste_sign": lambda z: tf.cast(tf.abs(z) <= 1, z.dtype),
    "sigmoid_sign": lambda z: sigmoid_slope(z, 3.0),
    "sign_swish": lambda z: sign_swish_slope(z, 5.0),
    "reste": reste_slope,
}


@fused
def _value(x: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    return tf.cast(lq.math.sign(at_least_float32(x) - threshold), x.dtype)


@fused
def rsign_gradient(
    upstream: tf.Tensor,
    x: tf.Tensor,
    shift: tf.Tensor,
    scale: tf.Tensor,
    *power: tf.Tensor,
    estimator: Estimator,
) -> tf.Tensor:
    """Returns the gradient in x; `power` is that of an estimator that has one."""
    derivative = estimator if callable(estimator) else ESTIMATORS[estimator]
    slope = derivative(scale * at_least_float32(x) + shift, *power)
    return tf.cast(scale * at_least_float32(upstream) * slope, x.dtype)


@with_gradient
def rsign(
    x: tf.Tensor,
    shift: tf.Tensor,
    *,
    scale: float,
    estimator: Estimator,
    power: tuple[tf.Tensor, ...] = (),
) -> tuple[tf.Tensor, Callable]:
    """Computes sign(scale·x + shift), with the estimator's gradient, fused."""

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        weights = (shift, tf.constant(scale, shift.dtype), *power)
        d_x = rsign_gradient(upstream, x, *weights, estimator=estimator)
        return d_x, channel_sum(d_x) / scale

    # A positive scale does not change a sign, only the threshold.
    return _value(x, -shift / scale), grad


def check_estimator(estimator: Any) -> Estimator:
    """Returns an estimator; the function itself for a registered name."""
    if isinstance(estimator, str) and ">" in estimator:
        estimator = registered("estimator", estimator)
    if isinstance(estimator, type) or not callable(estimator):
        return check_choice("estimator", estimator, ESTIMATORS)
    return estimator


class ThresholdSign(MeasuredQuantizer):
    """Abstract base of signs of activations with a threshold per channel."""

    precision = 1
    _in_config = "scale shift=_learns_shift offset"
    _tunable = "shift"

    def __init__(
        self, scale: float = 1.0, shift: bool = True, offset: float = 0.0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.scale = check_number(
            "scale", scale, "(0, inf)", "It multiplies the input; 1 leaves it alone."
        )
        self._learns_shift = check_flag("shift", shift)
        self.shift: Any = None
        self.offset = check_number(
            "offset", offset, "(-inf, inf)", "It is added to the input; 0 adds nothing."
        )
        self._channels = 0  # set by `build`

    def build(self, input_shape: tf.TensorShape) -> None:
        kind = type(self).__name__
        channels = self._channels = check_channels(kind, tuple(input_shape))
        if self._learns_shift:
            self.shift = self.add_weight("shift", (channels,), self.offset)
        super().build(input_shape)

    def whole_shift(self) -> np.ndarray | None:
        """Returns the shift of the scaled input of a built layer, (C,); None for 0."""
        if self.shift is not None:
            return self.shift.numpy()
        return np.full(self._channels, self.offset, "f4") if self.offset else None

    def _shift_for(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the shift, after a check of the number of channels."""
        if self.shift is None:
            return beside(inputs, tf.fill(inputs.shape[-1:], self.offset))
        self._check_owner(inputs, lambda shape: shape[-1])
        return beside(inputs, self.shift)


@register("rsign")
class RSign(ThresholdSign):
    r"""Binary activation with a learned threshold per channel.

    \[ q(x) = \operatorname{sign}(a x + b_c), \qquad
       \frac{\partial L}{\partial x} = a\, g\, e(a x + b_c), \qquad
       \frac{\partial L}{\partial b_c} = \sum_{n,h,w} g\, e(a x + b_c), \]

    with sign(0) = +1, shift \(b_c\), fixed positive scale \(a\) and the estimator's
    pseudo-derivative \(e(z)\): \(\max(0, 2-2|z|)\) for `"approx_sign"`,
    \(1[|z| \le 1]\) for `"ste_sign"`, \(6\sigma(3z)(1-\sigma(3z))\), σ the logistic
    function, for `"sigmoid_sign"`, that of `SignSwish` with β = 5 for `"sign_swish"`,
    and for `"reste"` that of `ReSTE`, whose power `callbacks.PowerScheduler` increases.
    A residual block can fold its β into the scale, which costs nothing in the forward
    pass, \(q(x) = \operatorname{sign}(x + b_c/a)\). A constant `offset` without a
    learned shift decides the sign of inputs that are 0 except for rounding. At
    inference: **folded** into one subtraction before the binary convolution.

    Arguments:
        scale: Fixed positive factor a.
        shift: Whether to learn b; without it b = 0, and the threshold is 0.
        offset: Initial value of the shift; with `shift=False`, a constant shift.
            Networks have 1e-5.
        estimator: `"approx_sign"`, `"ste_sign"`, `"sigmoid_sign"`, `"sign_swish"` or
            `"reste"`; or e itself, an elementwise function of TensorFlow operations, or
            its registered name. A model can be saved if the function is registered.
        power: Initial power of `"reste"`, 1 or more; others ignore it.
        metrics: `["flip_ratio"]` or `[]`; None takes those of Larq's `metrics_scope`.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `shift_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        shift: Shape (C,), C the channels; starts at `offset`. Only with `shift=True`.
        power: Shape (), not trained, saved with the model; only of `"reste"`.

    Input shape:
        (batch, ..., C), of any rank from 2.

    Output shape:
        The input shape; the values are -1 and +1.

    Raises:
        TypeError, ValueError: For a scale that is not a positive number, an unknown
            estimator, a power below 1, an unknown number of channels, or one object
            given to inputs of different channel counts.

    Example:
        ```python
        import larq as lq
        import larq_nobn as nobn

        conv = lq.layers.QuantConv2D(
            64, 3, padding="same", pad_values=1.0, use_bias=False,
            input_quantizer="rsign", kernel_quantizer="scaled_std_sign",
        )
        ```

    References:
        - Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, "ReActNet: Towards Precise Binary
          Neural Network with Generalized Activation Functions", ECCV 2020,
          arXiv:2003.03488.
        - R. Ma, G. Qiao, Y. Liu, L. Meng, N. Ning, Y. Liu, S. Hu, "A&B BNN: Add&Bit-
          Operation-Only Hardware-Friendly Binary Neural Network", CVPR 2024,
          arXiv:2403.03739 (the sigmoid estimator).
        - S. Darabi, M. Belbahri, M. Courbariaux, V. Partovi Nia, "Regularized Binary
          Network Training", 2018, arXiv:1812.11800 (SignSwish).
        - X.-M. Wu, D. Zheng, Z.-H. Liu, W.-S. Zheng, "Estimator Meets Equilibrium
          Perspective: A Rectified Straight Through Estimator for Binary Neural Networks
          Training", ICCV 2023, arXiv:2308.06689 (ReSTE).

    Differences from the paper:
        The paper subtracts a threshold; here, as in its code, a shift is added.
        PyTorch's sign(0) = 0 becomes +1. `scale` is an addition; 1 changes nothing.
    """

    power_weight = weight_of("power")
    _in_config = "estimator=_estimator_name power=_initial_power"

    @once_positional("estimator", "shift", "power", "offset")
    def __init__(
        self,
        scale: float = 1.0,
        *,
        shift: bool = True,
        offset: float = 0.0,
        estimator: Estimator = "approx_sign",
        power: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(scale=scale, shift=shift, offset=offset, **kwargs)
        self.estimator = check_estimator(estimator)
        self._initial_power = check_power(power)
        self.power: Any = None

    @property
    def _estimator_name(self) -> Any:
        """The estimator in configurations; raises for a function without a name."""
        if not callable(self.estimator):
            return self.estimator
        known = keras.utils.get_custom_objects().items()
        for name, value in known:
            if value is self.estimator and ">" in name:
                return name
        raise InvalidValue(
            f"{type(self).__name__} {self.name!r} has estimator={self.estimator!r}, "
            "which is not registered, so it cannot be saved. Write above the function: "
            "@tf.keras.utils.register_keras_serializable('my_parts')."
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        super().build(input_shape)
        if self.estimator == "reste":
            start = self._initial_power
            self.power = self.add_weight("power", (), start, trainable=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        shift = self._shift_for(inputs)
        power = () if self.power is None else (beside(inputs, self.power),)
        signs = rsign(
            inputs, shift, scale=self.scale, estimator=self.estimator, power=power
        )
        return self._measured(signs)
