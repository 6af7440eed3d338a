"""Layers made to fit the tensors of a ReCU checkpoint."""

from __future__ import annotations

import larq as lq
import tensorflow as tf

from .._keras import keras
from .._larq import without_starvation_warning
from ..layers import ActivationStandardization
from ..models._normalizers import BATCH_NORM
from ..quantizers import ReCU, RSign
from ._shapes import State, shape_of
from ._slots import Slots, batch_norm, convolution, dense, shift


class Assembly:
    """Makes layers from the shapes in a checkpoint, and notes what belongs in them.

    Every method takes the feature map, the name of the module in PyTorch, and the name
    of the layer here.

    Arguments:
        state: The tensors of the checkpoint.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.slots: Slots = {}

    def channels(self, source: str) -> int:
        """Output channels of a convolution."""
        return shape_of(self.state, f"{source}.weight", 4)[0]

    def real_conv(
        self, x: tf.Tensor, source: str, name: str, strides: int = 1
    ) -> tf.Tensor:
        """A real-valued convolution."""
        channels, _, *size = shape_of(self.state, f"{source}.weight", 4)
        conv = lq.layers.QuantConv2D(
            channels, size, strides, "same", use_bias=False, name=f"{name}_conv"
        )
        y = conv(x)
        self.slots |= convolution(source, conv)
        return y

    def binary_conv(
        self,
        x: tf.Tensor,
        source: str,
        name: str,
        strides: int = 1,
        shifted: str | None = None,
    ) -> tf.Tensor:
        """A binary convolution; `shifted` names the bias before its sign, if any."""
        if shifted is None:
            x = ActivationStandardization(name=f"{name}_std")(x)
        channels, _, *size = shape_of(self.state, f"{source}.weight", 4)
        sign = RSign(shift=shifted is not None, name=f"{name}_sign")
        with without_starvation_warning():
            conv = lq.layers.QuantConv2D(
                channels,
                size,
                strides,
                "same",
                use_bias=False,
                input_quantizer=sign,
                kernel_quantizer=ReCU(name=f"{name}_kernel"),
                name=f"{name}_conv",
            )
        y = conv(x)
        self.slots |= convolution(source, conv)
        if shifted is not None:
            self.slots |= shift(shifted, sign.shift)
        return y

    def norm(self, x: tf.Tensor, source: str, name: str) -> tf.Tensor:
        """A batch norm."""
        norm = keras.layers.BatchNormalization(name=f"{name}_norm", **BATCH_NORM)
        y = norm(x)
        self.slots |= batch_norm(source, norm)
        return y

    def head(
        self, x: tf.Tensor, source: str, positions: tuple[int, int] = (1, 1)
    ) -> tf.Tensor:
        """The dense layer at the end; `positions` as in `dense`."""
        classes, _ = shape_of(self.state, f"{source}.weight", 2)
        layer = keras.layers.Dense(classes, name="head", dtype="float32")
        y = layer(x)
        self.slots |= dense(source, layer, positions)
        return y


def clip(x: tf.Tensor, name: str) -> tf.Tensor:
    """The hard tanh."""
    return keras.layers.Activation(lq.activations.hard_tanh, name=f"{name}_clip")(x)


def add(x: tf.Tensor, y: tf.Tensor, name: str) -> tf.Tensor:
    """The sum of a branch and its shortcut."""
    return keras.layers.Add(name=f"{name}_add")([x, y])
