"""The layers that prepared models are made of where training needed other forms."""

from __future__ import annotations

from typing import Any

import larq as lq
import numpy as np
import tensorflow as tf

from .._keras import keras
from ..layers._groups import group_moments
from ..layers._rprelu import spelled_rprelu


class ShiftedSign(lq.quantizers.Quantizer):
    """sign(x + shift), or without a shift, in Larq's spelling, which LCE recognises."""

    precision = 1

    def __init__(self, shift: np.ndarray | None, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.shift = None if shift is None else tf.constant(shift, tf.float32)

    def shifted(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs if self.shift is None else inputs + self.shift

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return lq.math.sign(self.shifted(inputs))


class PlainAffine(keras.layers.Layer):
    """gain * x + offset per channel, which is all that batch norm is at inference.

    Arguments:
        gain, offset: (C,) or a number, each.
        **kwargs: Keras layer arguments.

    Attributes:
        gain: A float32 constant of rank 1 or 0; None for 1.
        offset: Likewise; None for 0.
    """

    def __init__(self, gain: Any, offset: Any, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        # Rank 1 at most: LCE fuses other constants into a file that cannot run.
        self.gain = None if np.all(gain == 1) else tf.constant(gain, tf.float32)
        self.offset = None if np.all(offset == 0) else tf.constant(offset, tf.float32)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = inputs if self.gain is None else inputs * self.gain
        return outputs if self.offset is None else outputs + self.offset


class PlainRPReLU(keras.layers.Layer):
    """PReLU(x + shift_in; slope) + shift_out, free of how training computes it.

    Arguments:
        shift_in, slope, shift_out: (C,) each.
        **kwargs: Keras layer arguments.
    """

    def __init__(
        self,
        shift_in: np.ndarray,
        slope: np.ndarray,
        shift_out: np.ndarray,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.shift_in = tf.constant(shift_in, tf.float32)
        self.slope = tf.constant(slope, tf.float32)
        self.shift_out = tf.constant(shift_out, tf.float32)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return spelled_rprelu(inputs, self.shift_in, self.slope, self.shift_out)


class PlainGroupNormalization(keras.layers.Layer):
    """Group normalization that reshapes statistics only, never the feature map.

    Keras' own reshapes the map into groups. TensorFlow Lite runs RESHAPE in place and
    the next ADD in place behind it, which destroys a map that a shortcut still needs.

    Arguments:
        groups: Number of groups.
        epsilon: Added to the variance.
        gamma, beta: (C,) each.
        **kwargs: Keras layer arguments.
    """

    def __init__(
        self,
        groups: int,
        epsilon: float,
        gamma: np.ndarray,
        beta: np.ndarray,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.groups, self.epsilon = groups, epsilon
        self.gamma = tf.constant(gamma, tf.float32)
        self.beta = tf.constant(beta, tf.float32)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        mean, variance = group_moments(inputs, self.groups)
        rate = tf.math.rsqrt(variance + self.epsilon)
        return (inputs - mean) * (rate * self.gamma) + self.beta


class BinaryConvolution(lq.layers.QuantConv2D):
    """activation(scale * (sign(x) conv ±1) + bias), the convolution in exact integers.

    With the scale in the kernel, Keras would add ±c in float: a sum that should be 0
    becomes ±1e-9, whose sign is noise, while LCE counts bits and gets 0.

    Arguments:
        kernel: ±1, (height, width, input channels, output channels).
        scale: (C,), not negative; None for 1.
        bias: (C,); None for no bias.
        activation: Applied last.
        **kwargs: Arguments of `QuantConv2D` other than quantizers.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        scale: np.ndarray | None,
        bias: np.ndarray | None,
        activation: Any,
        **kwargs: Any,
    ):
        super().__init__(
            kernel_initializer=keras.initializers.Constant(kernel),
            use_bias=False,
            dtype="float32",
            **kwargs,
        )
        # Rank 1: LCE fuses any other constant shape into a file that cannot run.
        self.scale = None if scale is None else tf.constant(scale, tf.float32)
        self.offset = None if bias is None else tf.constant(bias, tf.float32)
        self.last = keras.activations.get(activation)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = super().call(inputs)
        if self.scale is not None and self.offset is None and self._is_relu():
            # The same value, since scale >= 0; LCE fuses a ReLU only before the scale.
            return self.last(outputs) * self.scale
        if self.scale is not None:
            outputs = outputs * self.scale
        if self.offset is not None:
            outputs = outputs + self.offset
        return self.last(outputs)

    def _is_relu(self) -> bool:
        return self.last is keras.activations.relu
