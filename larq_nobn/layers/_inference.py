"""The layers that prepared models are made of where training needed other forms.

Each can be made again from its configuration, which has numbers in it: a graph of a
prepared model is built of new ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from .._larq import lq
from ._groups import group_moments
from ._rprelu import spelled_prelu


def _constant(numbers: Any, nothing: float = 0.0) -> tf.Tensor | None:
    """Numbers as a float32 constant; None where they change nothing."""
    # Rank 1 at most: LCE fuses other constants into a file that cannot run.
    if numbers is None or np.all(np.asarray(numbers) == nothing):
        return None
    return tf.constant(numbers, tf.float32)


# A maximum with it changes nothing.
_LEAST = float(np.finfo(np.float32).min)


class ShiftedSign(lq.quantizers.Quantizer):
    """sign(x + shift), or without a shift, in spellings that LCE recognises.

    Arguments:
        shift: (C,); None for 0.
        gain: (C,), where the given model takes the sign of gain * (x + shift): of a
            negative one, the opposite sign. None for 1.
        **kwargs: Keras layer arguments.
    """

    precision = 1

    def __init__(
        self,
        shift: np.ndarray | None,
        gain: np.ndarray | None = None,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.shift = _constant(shift)
        self.gain = None if gain is None else np.asarray(gain, np.float32)

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("name", "shift", "gain")}

    def shifted(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs if self.shift is None else inputs + self.shift

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if self.shift is None:
            return lq.math.sign(inputs)
        # Larq's spelling of a sign is sign(sign(x) + 0.1), for which LCE would take a
        # shifted sign of a sign too, and drop the shift.
        return tf.where(self.shifted(inputs) >= 0, 1.0, -1.0)


class SignAbove(lq.quantizers.Quantizer):
    """+1 for positive numbers, -1 for others: at 0 the opposite of Larq's sign."""

    precision = 1

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return -lq.math.sign(-inputs)


class SaturatingSign(keras.layers.Layer):
    """sign(x + shift) of multiplications that saturate, which every runtime has.

    Of numbers on a grid of `step` s it is one 1x1 depthwise convolution, clip(4/s * x +
    2 - 4g/s, -1, 1), where g is the least number of the grid that becomes +1: a step is
    4, so that all saturate, and half a step decides. Of float32 numbers, 2^100 x
    saturates before that, but for those below 2^-100. A converter may multiply a kernel
    before it by that, whose sums must not overflow.

    Arguments:
        shift: (C,); None for 0.
        above: Whether 0 becomes -1.
        step: s; None for float32 numbers.
        padding: Rows and columns of what becomes +1 around a map, as
            ((before, after), (before, after)); None for none.
        **kwargs: Keras layer arguments.
    """

    def __init__(
        self,
        shift: np.ndarray | None,
        above: bool,
        step: float | None,
        padding: Any = None,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", trainable=False, **kwargs)
        self.shift, self.above, self.step = shift, above, step
        self.padding = padding

    def get_config(self) -> dict[str, Any]:
        names = ("name", "shift", "above", "step", "padding")
        return {name: getattr(self, name) for name in names}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x, channels = inputs, inputs.shape[-1]
        if x.shape.rank != 4:
            x = tf.reshape(x, (-1, 1, math.prod(x.shape[1:-1]), channels))
        if self.step is None and self.shift is not None:
            x = x + np.float32(self.shift)
        if self.padding is not None and not self.pads_signs():
            x = tf.pad(x, [(0, 0), *self.padding, (0, 0)])  # sign(0) is +1
        step = 1.0 if self.step is None else self.step
        edge: Any = np.zeros(())
        if self.step is None:
            x = tf.clip_by_value(x * np.float32(2.0**100), -1.0, 1.0)
        elif self.shift is not None:
            edge = np.round(-np.float64(self.shift) / step, 6)
        least = np.floor(edge) + 1 if self.above else np.ceil(edge)
        kernel = np.full((1, 1, channels, 1), 4 / step, np.float32)
        y = tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID")
        y = tf.clip_by_value(y + np.float32(2 - 4 * least), -1.0, 1.0)
        if self.step is not None:  # a range in which ±1 are on the grid
            y = tf.quantization.fake_quant_with_min_max_vars(y, -128 / 127, 1.0)
        if self.padding is not None and self.pads_signs():
            y = tf.pad(y, [(0, 0), *self.padding, (0, 0)], constant_values=1.0)
        return y if inputs.shape.rank == 4 else tf.reshape(y, (-1, *inputs.shape[1:]))

    def pads_signs(self) -> bool:
        """Whether zeros around its inputs would not become +1."""
        return self.above or (self.step is not None and self.shift is not None)


class SummedPReLU(keras.layers.Layer):
    """max(x, 0) + slope * min(x, 0) in int8, of operations that delegates have.

    Of the two summands one is 0, and the first is on the grid of x, so that only the
    second and the sum are rounded. Where no slope is negative, the second is slope * x
    in a range that ends at 0.

    Arguments:
        slope: (C,).
        ends: The range of x.
        range_after: That of the sum.
        **kwargs: Keras layer arguments.
    """

    def __init__(self, slope: np.ndarray, ends: Any, range_after: Any, **kwargs: Any):
        super().__init__(dtype="float32", trainable=False, **kwargs)
        self.slope, self.ends, self.range_after = slope, ends, range_after

    def get_config(self) -> dict[str, Any]:
        names = ("name", "slope", "ends", "range_after")
        return {name: getattr(self, name) for name in names}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rounded = tf.quantization.fake_quant_with_min_max_vars

        def scaled(x: tf.Tensor, slope: Any) -> tf.Tensor:
            kernel = np.broadcast_to(np.float32(slope), inputs.shape[-1:])
            kernel = kernel.reshape(1, 1, -1, 1)
            return tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID")

        # A ReLU of its own is nothing that delegates have in int8.
        positive = rounded(tf.nn.relu(scaled(inputs, 1.0)), *self.ends)
        rest, (low, high) = inputs, self.range_after
        if np.min(self.slope) < 0:
            rest = rounded(inputs - positive, *self.ends)
        else:
            high = 0.0
        return positive + rounded(scaled(rest, self.slope), low, high)


class PlainTernary(lq.quantizers.Quantizer):
    """-1, 0 or +1, in a spelling that LCE does not take for a sign.

    Larq's is the sign of a sum of two signs, and LCE makes a plain sign of that.

    Arguments:
        threshold: From this magnitude on it is no 0; None for that of ternary weight
            networks.
        **kwargs: Keras layer arguments.
    """

    precision = 2

    def __init__(self, threshold: float | None, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self._threshold = threshold
        self.ternary_weight_networks = threshold is None

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "threshold": self._threshold}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        threshold = self._threshold
        if threshold is None:  # that of ternary weight networks
            threshold = 0.7 * tf.reduce_mean(tf.abs(inputs))
        up, down = inputs >= threshold, inputs <= -threshold
        return tf.cast(up, inputs.dtype) - tf.cast(down, inputs.dtype)


class PlainAffine(keras.layers.Layer):
    """gain * x + offset per channel, which is all that batch norm is at inference.

    Arguments:
        gain, offset: (C,) or a number, each.
        **kwargs: Keras layer arguments.

    Attributes:
        gain: A float32 constant of rank 1 or 0; None for 1.
        offset: Likewise; None for 0.
        exact: Both, in float64.
    """

    def __init__(self, gain: Any, offset: Any, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        # Of their quotient, a threshold, rounding would make one that is not reached.
        self.exact = np.asarray(gain, np.float64), np.asarray(offset, np.float64)
        self.gain, self.offset = _constant(gain, 1.0), _constant(offset)

    def get_config(self) -> dict[str, Any]:
        gain, offset = self.exact
        return {"name": self.name, "gain": gain, "offset": offset}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        inputs = tf.cast(inputs, tf.float32)  # of whole numbers batch norm does that
        outputs = inputs if self.gain is None else inputs * self.gain
        return outputs if self.offset is None else outputs + self.offset


class Apart(keras.layers.Layer):
    """x, past which LCE merges nothing."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.maximum(inputs, _LEAST)


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
        self.shift_in, self.shift_out = _constant(shift_in), _constant(shift_out)
        self.slope = tf.constant(slope, tf.float32)

    def get_config(self) -> dict[str, Any]:
        names = ("name", "shift_in", "slope", "shift_out")
        return {name: getattr(self, name) for name in names}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        z = inputs if self.shift_in is None else inputs + self.shift_in
        outputs = spelled_prelu(z, self.slope)
        return outputs if self.shift_out is None else outputs + self.shift_out


class PlainGroupNormalization(keras.layers.Layer):
    """Group normalization that reshapes statistics only, never the feature map.

    Keras' own reshapes the map into groups. TensorFlow Lite runs RESHAPE in place and
    the next ADD in place after it, which destroys a map that a shortcut still needs.

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
        self.beta = _constant(beta)

    def get_config(self) -> dict[str, Any]:
        names = ("name", "groups", "epsilon", "gamma", "beta")
        return {name: getattr(self, name) for name in names}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        mean, variance = group_moments(inputs, self.groups)
        rate = tf.math.rsqrt(variance + self.epsilon)
        outputs = (inputs - mean) * (rate * self.gamma)
        return outputs if self.beta is None else outputs + self.beta


class BinaryConvolution(lq.layers.QuantConv2D):
    """last(scale * (sign(x) conv ±1) + offset), the convolution in exact integers.

    With the scale in the kernel, Keras would add ±c in float: a sum that should be 0
    becomes ±1e-9, whose sign is noise, while LCE counts bits and gets 0.

    Arguments:
        scale: (C,), not negative; None for 1.
        offset: (C,); None for 0.
        last: The activation.
        **kwargs: Arguments of `QuantConv2D` other than quantizers.

    Weights:
        kernel: ±1, (height, width, input channels, output channels).
    """

    def __init__(
        self,
        scale: np.ndarray | None,
        offset: np.ndarray | None,
        last: Any,
        **kwargs: Any,
    ):
        super().__init__(
            kernel_initializer="zeros",
            use_bias=False,
            dtype="float32",
            **kwargs,
        )
        self.scale, self.offset = _constant(scale, 1.0), _constant(offset)
        self.last = keras.activations.get(last)

    def get_config(self) -> dict[str, Any]:
        own = [*("name", "scale", "offset", "last", "filters", "kernel_size")]
        own += ["strides", "dilation_rate", "padding", "pad_values", "input_quantizer"]
        return {name: getattr(self, name) for name in own}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        outputs = super().call(inputs)
        if self.scale is not None and self.is_rectified():
            # The same value, since scale >= 0; LCE fuses a ReLU only before the scale.
            return self.last(outputs) * self.scale
        if self.scale is not None:
            outputs = outputs * self.scale
        if self.offset is not None:
            outputs = outputs + self.offset
        return self.last(outputs)

    def is_rectified(self) -> bool:
        """Whether all that it does after the kernel is a ReLU and a scale."""
        return self.offset is None and self.last is keras.activations.relu


class Channels(keras.layers.Layer):
    """Some of the channels of a map.

    Arguments:
        channels: Which.
        **kwargs: Keras layer arguments.
    """

    def __init__(self, channels: slice, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.channels = channels

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "channels": self.channels}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[..., self.channels]


class ConstantLess(keras.layers.Layer):
    """constant - x, where the constant may differ from one position to the next.

    Of `x + constant` LCE would make a bias per channel, and a file that cannot run.

    Arguments:
        constant: (height, width, C).
        **kwargs: Keras layer arguments.
    """

    def __init__(self, constant: np.ndarray, **kwargs: Any):
        super().__init__(dtype="float32", **kwargs)
        self.constant = tf.constant(constant[None], tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "constant": self.constant[0]}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.constant - inputs


class PlusLast(keras.layers.Layer):
    """All channels but the last, plus the last."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[..., :-1] + inputs[..., -1:]
