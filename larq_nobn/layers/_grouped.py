"""Real-valued convolutions in groups of channels."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .._keras import register
from .._larq import lq


def block_diagonal(kernel: tf.Tensor, groups: int) -> tf.Tensor:
    """Returns the full kernel of a grouped one, with zeros between different groups.

    The grouped kernel is (height, width, input channels of a group, output channels).
    """
    outputs = np.arange(kernel.shape[-1]) * groups // kernel.shape[-1]
    mask = np.arange(groups)[:, None] == outputs
    blocks = kernel[:, :, None] * mask[:, None].astype(kernel.dtype.as_numpy_dtype)
    return tf.reshape(blocks, (*kernel.shape[:2], -1, kernel.shape[-1]))


@register()
class GroupedConv2D(lq.layers.QuantConv2D):
    """`QuantConv2D(groups=...)` of real-valued inputs, computed as a full convolution.

    Weights and results are those of `QuantConv2D`, but it is faster: on a CPU, Keras
    compiles grouped convolutions, which makes a training step many times slower; on
    device, TFLite has only a slow reference kernel for them.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        with lq.context.quantized_scope(True):
            kernel = tf.convert_to_tensor(self.kernel)
        outputs = self.convolution_op(inputs, block_diagonal(kernel, self.groups))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)
