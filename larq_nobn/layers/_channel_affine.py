from __future__ import annotations

import tensorflow as tf

from .._keras import register
from .._math import at_least_float32, beside
from ._channelwise import ChannelwiseLayer


@register()
class ChannelAffine(ChannelwiseLayer):
    r"""A learned scale and bias per channel: batch norm without statistics.

    \[ y = \gamma_c x + \beta_c, \qquad \frac{\partial L}{\partial x} = \gamma_c g,
       \qquad \frac{\partial L}{\partial \gamma_c} = \sum_{n,h,w} g\, x, \qquad
       \frac{\partial L}{\partial \beta_c} = \sum_{n,h,w} g . \]

    A trained batch norm computes this at inference. The layer replaces it where scale
    and bias cannot be moved into a neighboring layer exactly. At inference: **folded**
    into the multiplier and bias of a binary convolution directly before it.

    Arguments:
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gamma_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        gamma, beta: Shape (C,), C the channels; they start at 1 and 0.

    Input shape:
        (batch, ..., C), of any rank from 2.

    Output shape:
        The input shape.

    Raises:
        ValueError: For an unknown number of channels.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        layer = nobn.layers.ChannelAffine()
        y = layer(tf.random.normal((2, 8, 8, 16)))
        ```

    References:
        - H. Touvron et al., "ResMLP: Feedforward networks for image classification with
          data-efficient training", 2021, arXiv:2105.03404 (the affine layer).

    Differences from the paper:
        None known.
    """

    _tunable = "gamma beta"

    def build(self, input_shape: tf.TensorShape) -> None:
        self.gamma = self.add_channel_weight("gamma", "ones", input_shape)
        self.beta = self.add_channel_weight("beta", "zeros", input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        gamma, beta = (beside(inputs, weight) for weight in (self.gamma, self.beta))
        return tf.cast(at_least_float32(inputs) * gamma + beta, inputs.dtype)
