from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_channels, check_flag, check_number
from .._keras import keras, register
from .._math import at_least_float32, channel_sum


@tf.custom_gradient
def filter_response_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: tf.Tensor
) -> tuple[tf.Tensor, Callable]:
    """gamma·x/sqrt(mean x² + epsilon) + beta, with one fused gradient."""
    wide = at_least_float32(x)
    axes = tuple(range(1, x.shape.rank - 1))

    def spatial_mean(values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(values, axes, keepdims=True) if axes else values

    rate = tf.math.rsqrt(spatial_mean(tf.square(wide)) + epsilon)
    value = wide * (rate * gamma) + beta

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        g = at_least_float32(upstream)
        # Per example and channel: the mean of g·x is all that couples the positions.
        product = g * wide
        inner = spatial_mean(product)
        d_x = (rate * gamma) * g - wide * (gamma * inner * rate**3)
        d_gamma = channel_sum(product * rate)
        # Every position has its share of d_epsilon, as in the mean above.
        d_epsilon = -0.5 * channel_sum(product * (gamma * rate**3))
        return tf.cast(d_x, x.dtype), d_gamma, channel_sum(g), d_epsilon

    return tf.cast(value, x.dtype), grad


@register()
class FilterResponseNormalization(keras.layers.Layer):
    r"""Scales every channel of every example by its own root mean square.

    With sums over the H·W positions (or those of any other spatial rank),

    \[ \nu^2_{nc} = \operatorname{mean}_{hw} x^2, \quad
       r = \sqrt{\nu^2 + \epsilon + |\epsilon_l|}, \quad
       \hat x = x / r, \quad y = \gamma_c \hat x + \beta_c . \]

    With upstream gradient \(g\), \(\partial L/\partial x = (\gamma g - \hat x
    \operatorname{mean}_{hw}(\gamma g \hat x))/r\), \(\partial L/\partial\gamma = \sum g
    \hat x\), \(\partial L/\partial\beta = \sum g\), \(\partial L/\partial\epsilon_l =
    -\tfrac12 \operatorname{sign}(\epsilon_l) \sum \gamma g x / r^3\). Nothing
    depends on the rest of the batch, in training and inference alike. Inference fate:
    **stays**, with a reduction over the positions.

    Arguments:
        epsilon: Fixed positive part of ε, in units of x².
        learned_epsilon: Add \(|\epsilon_l|\), learned per channel from 1e-4. Needed for
            inputs without positions (rank 2), advisable for 1x1 maps.
        center: Whether to learn β.
        scale: Whether to learn γ.
        **kwargs: Keras layer arguments, such as `name`.

    Weights:
        gamma, beta, learned_epsilon: Shape (C,) each, as far as asked for.

    Input shape:
        (batch, ..., C), channels last; rank 2 only with `learned_epsilon=True`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For a wrong epsilon or flag, an unknown number of
            channels, or rank-2 input without `learned_epsilon`.

    Example:
        ```python
        import tensorflow as tf
        import larq_nobn as nobn

        y = nobn.layers.FilterResponseNormalization()(tf.random.normal((2, 8, 8, 16)))
        ```

    References:
        - S. Singh, S. Krishnan, "Filter Response Normalization Layer: Eliminating Batch
          Dependence in the Training of Deep Neural Networks", CVPR 2020,
          arXiv:1911.09737.

    Differences from the paper:
        The paper learns ε for 1x1 maps; here the user asks for it. The thresholded
        activation that belongs to it is the layer `ThresholdedLinearUnit`.
    """

    def __init__(
        self,
        epsilon: float = 1e-6,
        learned_epsilon: bool = False,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 1e-6.")
        self._learn_epsilon = check_flag("learned_epsilon", learned_epsilon)
        self.learned_epsilon: Any = learned_epsilon
        self.center = check_flag("center", center)
        self.scale = check_flag("scale", scale)

    def build(self, input_shape: tf.TensorShape) -> None:
        channels = check_channels("FilterResponseNormalization", tuple(input_shape))
        if len(input_shape) == 2 and not self._learn_epsilon:
            raise ValueError(
                f"FilterResponseNormalization got a rank-2 input of shape "
                f"{tuple(input_shape)}, where it would be little more than a sign; it "
                "needs positions to average over. Pass learned_epsilon=True to use it "
                "there all the same."
            )

        def weight(name: str, value: float) -> Any:
            return self.add_weight(
                name=name,
                shape=(channels,),
                initializer=keras.initializers.Constant(value),
                experimental_autocast=False,
            )

        self.gamma = weight("gamma", 1.0) if self.scale else None
        self.beta = weight("beta", 0.0) if self.center else None
        if self._learn_epsilon:
            self.learned_epsilon = weight("learned_epsilon", 1e-4)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        channels = inputs.shape[-1:]
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        epsilon = tf.fill(channels, tf.constant(self.epsilon, dtype))
        if self._learn_epsilon:
            epsilon += tf.abs(self.learned_epsilon)
        gamma = tf.ones(channels, dtype) if self.gamma is None else self.gamma
        beta = tf.zeros(channels, dtype) if self.beta is None else self.beta
        return filter_response_norm(
            inputs, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta), epsilon
        )

    def compute_output_shape(self, input_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "learned_epsilon": self._learn_epsilon,
            "center": self.center,
            "scale": self.scale,
        }
