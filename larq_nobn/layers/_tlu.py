from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import check_option, register
from ._channelwise import ChannelwiseLayer


@register()
class ThresholdedLinearUnit(ChannelwiseLayer):
    r"""ReLU with a learned threshold per channel, the partner of FRN.

    \[ z = \max(y, \tau_c), \qquad
       \frac{\partial L}{\partial y} = g \, 1[y > \tau], \qquad
       \frac{\partial L}{\partial \tau_c} = \sum g \, 1[y < \tau] ; \]

    where y = τ the gradient goes to y. Before a sign, start τ below zero: with a
    threshold of zero or more, all signs are +1. At inference: **kept**, as one MAXIMUM.

    Arguments:
        tau_initializer: Keras initializer of τ, in units of the input.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `tau_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        tau: Shape (C,).

    Input shape:
        (batch, ..., C), channels last.

    Output shape:
        The input shape.

    Raises:
        ValueError: For an unknown initializer or an unknown number of channels.

    Example:
        ```python
        import tensorflow as tf
        import larq_nobn as nobn

        y = nobn.layers.ThresholdedLinearUnit()(tf.constant([[-1.0, 2.0]]))  # [[0, 2]]
        ```

    References:
        - S. Singh, S. Krishnan, "Filter Response Normalization Layer: Eliminating Batch
          Dependence in the Training of Deep Neural Networks", CVPR 2020,
          arXiv:1911.09737.

    Differences from the paper:
        The paper puts it after every filter response norm; networks of this package
        only in place of a ReLU, since before a sign its output may be constant.
    """

    _in_config = "tau_initializer"
    _tunable = "tau"

    def __init__(self, tau_initializer: Any = "zeros", **kwargs: Any):
        super().__init__(**kwargs)
        self.tau_initializer = check_option("tau_initializer", tau_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.tau = self.add_channel_weight("tau", self.tau_initializer, input_shape)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.maximum(inputs, tf.cast(self.tau, inputs.dtype))
