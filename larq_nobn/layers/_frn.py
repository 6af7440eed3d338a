from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._checks import check_channels, check_flag, check_number
from .._errors import InvalidValue
from .._keras import check_option, register, weight_of
from .._math import at_least_float32, beside, channel_sum, fused, product
from ._channelwise import ChannelwiseLayer, affine
from ._group_statistics import group_mean


@fused
def _square(x: tf.Tensor) -> tf.Tensor:
    return tf.square(at_least_float32(x))


@fused
def _slope(
    upstream: tf.Tensor,
    x: tf.Tensor,
    inverse_rms: tf.Tensor,
    gamma: tf.Tensor,
    inner: tf.Tensor,
) -> tf.Tensor:
    direct, along = inverse_rms * gamma, gamma * inner * inverse_rms**3
    slope = at_least_float32(upstream) * direct - at_least_float32(x) * along
    return tf.cast(slope, x.dtype)


@tf.custom_gradient
def filter_response_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: tf.Tensor
) -> tuple[tf.Tensor, Callable]:
    """Computes gamma·x/sqrt(mean x² + epsilon) + beta, with one fused gradient."""
    channels = x.shape[-1]
    inverse_rms = tf.math.rsqrt(group_mean(_square(x), channels) + epsilon)

    def grad(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        # One number per example and channel: only through it does the gradient of a
        # position, of gamma and of epsilon depend on the other positions.
        inner = group_mean(product(upstream, x), channels)
        positions = tf.cast(tf.size(x) / tf.size(inner), inner.dtype)
        return (
            _slope(upstream, x, inverse_rms, gamma, inner),
            positions * channel_sum(inner * inverse_rms),
            channel_sum(upstream),
            -0.5 * positions * channel_sum(gamma * inner * inverse_rms**3),
        )

    return affine(x, inverse_rms * gamma, beta), grad


@register()
class FilterResponseNormalization(ChannelwiseLayer):
    r"""Divides each channel of each example by its root mean square.

    With sums over the H·W positions (or those of any other spatial rank),

    \[ \nu^2_{nc} = \operatorname{mean}_{hw} x^2, \quad
       r = \sqrt{\nu^2 + \epsilon + |\epsilon_l|}, \quad
       \hat x = x / r, \quad y = \gamma_c \hat x + \beta_c . \]

    With upstream gradient \(g\), \(\partial L/\partial x = (\gamma g - \hat x
    \operatorname{mean}_{hw}(\gamma g \hat x))/r\), \(\partial L/\partial\gamma = \sum g
    \hat x\), \(\partial L/\partial\beta = \sum g\), \(\partial L/\partial\epsilon_l =
    -\tfrac12 \operatorname{sign}(\epsilon_l) \sum \gamma g x / r^3\). The layer is
    batch-independent. At inference: **kept**, with a reduction over the positions.

    Arguments:
        epsilon: Fixed positive part of ε, in units of x².
        learned_epsilon: Whether to add \(|\epsilon_l|\), learned per channel from 1e-4.
            Inputs without positions (rank 2) require it; 1x1 maps profit from it.
        center: Whether to learn β.
        scale: Whether to learn γ.
        beta_initializer: Keras initializer of β, in units of y.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gamma_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        gamma, beta, learned_epsilon: Shape (C,) each, if enabled above.

    Input shape:
        (batch, ..., C), channels last; rank 2 only with `learned_epsilon=True`.
        Masks are passed on, and masked positions count in the statistics, as in Keras'
        `LayerNormalization`.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For a wrong epsilon, flag or initializer, an unknown
            number of channels, or rank-2 input without `learned_epsilon`.

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
        The paper learns ε for 1x1 maps; here the user enables that. Its thresholded
        activation is a layer of its own, `ThresholdedLinearUnit`. The paper warms up
        the learning rate; the recipe `"filter_response"` does not.
    """

    learned_epsilon_weight = weight_of("learned_epsilon")
    _in_config = "epsilon learned_epsilon=_learn_epsilon center scale beta_initializer"
    _tunable = "gamma beta learned_epsilon"

    def __init__(
        self,
        epsilon: float = 1e-6,
        learned_epsilon: bool = False,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.epsilon = check_number("epsilon", epsilon, "(0, inf)", "Use 1e-6.")
        self._learn_epsilon = check_flag("learned_epsilon", learned_epsilon)
        self.learned_epsilon: Any = learned_epsilon
        self.center = check_flag("center", center)
        self.scale = check_flag("scale", scale)
        self.beta_initializer = check_option("beta_initializer", beta_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        check_channels("FilterResponseNormalization", tuple(input_shape))
        if len(input_shape) == 2 and not self._learn_epsilon:
            raise InvalidValue(
                f"FilterResponseNormalization got a rank-2 input of shape "
                f"{tuple(input_shape)}. Without positions to average over, it would be "
                "little more than a sign. Pass learned_epsilon=True to use it there."
            )
        weight = self.add_channel_weight
        self.gamma = weight("gamma", 1.0, input_shape) if self.scale else None
        start = self.beta_initializer
        self.beta = weight("beta", start, input_shape) if self.center else None
        if self._learn_epsilon:
            self.learned_epsilon = weight("learned_epsilon", 1e-4, input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        channels = inputs.shape[-1:]
        gamma = tf.ones(channels) if self.gamma is None else self.gamma
        beta = tf.zeros(channels) if self.beta is None else self.beta
        gamma, beta = beside(inputs, gamma), beside(inputs, beta)
        epsilon = tf.fill(channels, tf.constant(self.epsilon, gamma.dtype))
        if self._learn_epsilon:
            epsilon += tf.abs(beside(inputs, self.learned_epsilon))
        return filter_response_norm(inputs, gamma, beta, epsilon)
