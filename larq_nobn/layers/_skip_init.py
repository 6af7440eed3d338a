from __future__ import annotations

from typing import Any

import tensorflow as tf

from .._keras import check_option, register
from .._math import at_least_float32, beside
from ._channelwise import SameShape


@register()
class SkipInit(SameShape):
    r"""Multiplies a residual branch by one learned number, which starts at zero.

    \[ y = a x, \qquad \frac{\partial L}{\partial x} = a g, \qquad
       \frac{\partial L}{\partial a} = \sum g\, x, \]

    with the sum over all elements. Put it last in a branch, before the addition: the
    block then starts as its shortcut, at any depth, and the other weights of the branch
    learn from the second step on. At inference: **folded** into the multiplier of the
    binary convolution before it. While a is exactly 0, as before training, nothing is
    left of that convolution, and `convert` rejects the network for LCE.

    Arguments:
        gain_initializer: Keras initializer of a.
        **kwargs: Initializer, regularizer and constraint of each weight, as in Keras,
            such as `gain_regularizer`, and Keras layer arguments, such as `name`.

    Weights:
        gain: a, shape ().

    Input shape:
        Any.

    Output shape:
        The input shape.

    Raises:
        ValueError: For an unknown initializer.

    Example:
        ```python
        import larq_nobn as nobn
        import tensorflow as tf

        x = tf.random.normal((2, 8, 8, 16))
        y = x + nobn.layers.SkipInit()(tf.square(x))  # x before training
        ```

    References:
        - S. De, S. L. Smith, "Batch Normalization Biases Residual Blocks Towards the
          Identity Function in Deep Networks", NeurIPS 2020, arXiv:2002.10444.

    Differences from the paper:
        None known. The other initializers are an addition.
    """

    _in_config = "gain_initializer"
    _tunable = "gain"

    def __init__(self, gain_initializer: Any = "zeros", **kwargs: Any):
        super().__init__(**kwargs)
        self.gain_initializer = check_option("gain_initializer", gain_initializer)

    def build(self, input_shape: tf.TensorShape) -> None:
        self.gain = self.add_weight("gain", (), self.gain_initializer)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        gain = beside(inputs, self.gain)
        return tf.cast(at_least_float32(inputs) * gain, inputs.dtype)
