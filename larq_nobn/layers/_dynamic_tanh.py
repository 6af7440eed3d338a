from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._checks import check_number
from .._keras import check_option, register
from .._math import at_least_float32, beside
from ._channelwise import ChannelwiseLayer


def dynamic_tanh(
    x: tf.Tensor, alpha: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
) -> tf.Tensor:
    """Computes gamma·tanh(alpha·x) + beta, in float32 or better."""
    return tf.cast(gamma * tf.tanh(alpha * at_least_float32(x)) + beta, x.dtype)


@register()
class DynamicTanh(ChannelwiseLayer):
    r"""A tanh with a learned slope in place of a normalization (DyT).

    \[ t = \tanh(\alpha x), \qquad y = \gamma_c t + \beta_c ; \]

    with upstream gradient \(g\), \(\partial L/\partial x = \alpha \gamma_c g (1 -
    t^2)\), \(\partial L/\partial\alpha = \sum \gamma_c g x (1 - t^2)\), \(\partial
    L/\partial\gamma_c = \sum g t\), \(\partial L/\partial\beta_c = \sum g\). The layer
    uses no statistics: each value is computed alone, in training and at inference.
    Directly before a sign it changes only the gradient and, by β, the threshold. At
    inference: **kept**, as a MUL by α (folded into a binary convolution before it), a
    TANH, a MUL and an ADD; before a sign it is folded into a threshold.

    Arguments:
        alpha: Initial slope α, in units of 1/x; positive.
        beta_initializer: Keras initializer of β, in units of y.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gamma_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        alpha: A number.
        gamma, beta: Shape (C,), C the channels; γ starts at 1.

    Input shape:
        (batch, ..., C), of any rank from 2.

    Output shape:
        The input shape.

    Raises:
        TypeError, ValueError: For an alpha that is not a positive number, an unknown
            initializer, or an unknown number of channels.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        y = nobn.layers.DynamicTanh()(tf.random.normal((2, 8, 8, 16)))
        ```

    References:
        - J. Zhu, X. Chen, K. He, Y. LeCun, Z. Liu, "Transformers without
          Normalization", CVPR 2025, arXiv:2503.10622.

    Differences from the paper:
        None known.
    """

    _in_config = "alpha=_start beta_initializer"
    _tunable = "alpha gamma beta"

    def __init__(
        self, alpha: float = 0.5, beta_initializer: Any = "zeros", **kwargs: Any
    ):
        super().__init__(**kwargs)
        self._start = check_number("alpha", alpha, "(0, inf)", "Use 0.5.")
        self.beta_initializer = check_option("beta_initializer", beta_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.alpha = self.add_weight("alpha", (), self._start)
        self.gamma = self.add_channel_weight("gamma", "ones", input_shape)
        self.beta = self.add_channel_weight("beta", self.beta_initializer, input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        weights = (self.alpha, self.gamma, self.beta)
        return dynamic_tanh(inputs, *(beside(inputs, weight) for weight in weights))
