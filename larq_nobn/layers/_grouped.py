"""Real-valued convolutions in groups of channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import register
from .._larq import lq


def block_diagonal(kernel: tf.Tensor, groups: int, shuffled: bool = False) -> tf.Tensor:
    """Returns the full kernel of a grouped one, with zeros between different groups.

    The grouped kernel is (height, width, input channels of a group, output channels).
    If `shuffled`, group k reads every channel that group k would read after a channel
    shuffle, which puts channel i·(C / groups) + j at the place j·groups + i.
    """
    outputs = np.arange(kernel.shape[-1]) * groups // kernel.shape[-1]
    mask = np.arange(groups)[:, None] == outputs
    blocks = kernel[:, :, None] * mask[:, None].astype(kernel.dtype.as_numpy_dtype)
    full = (*kernel.shape[:2], -1, kernel.shape[-1])
    if shuffled:
        places = (*kernel.shape[:2], -1, groups, kernel.shape[-1])
        blocks = tf.transpose(tf.reshape(blocks, places), (0, 1, 3, 2, 4))
    return tf.reshape(blocks, full)


@register()
class GroupedConv2D(lq.layers.QuantConv2D):
    """`QuantConv2D(groups=...)` of real-valued inputs, computed as a full convolution.

    Weights and results are those of `QuantConv2D`, but it is faster: on a CPU, Keras
    compiles grouped convolutions, which makes a training step many times slower; on
    device, TFLite has only a slow reference kernel for them.

    Arguments:
        *arguments, **kwargs: Those of `QuantConv2D`.
        shuffled: Whether the channels are shuffled before, as in ShuffleNet
            (arXiv:1707.01083), so that each group reads channels of all groups of the
            layer before. It is part of the kernel and costs nothing.
    """

    def __init__(self, *arguments: Any, shuffled: bool = False, **kwargs: Any):
        super().__init__(*arguments, **kwargs)
        self.shuffled = shuffled

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shuffled": self.shuffled}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        with lq.context.quantized_scope(True):
            kernel = tf.convert_to_tensor(self.kernel)
        outputs = self.convolution_op(
            inputs, block_diagonal(kernel, self.groups, self.shuffled)
        )
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return self.activation(outputs)
