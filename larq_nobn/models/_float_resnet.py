"""A network with real-valued weights and activations, the teacher of distillation."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from .._checks import check_blocks, check_integer
from .._keras import keras
from ._frame import Frame, check_supported
from ._normalizations import batch_norm
from ._parts import LARGE


def float_resnet(
    input_shape: Sequence[int],
    classes: int,
    normalization: str = "batch_norm",
    width: int = 64,
    blocks: Sequence[int] = (2, 2, 2, 2),
    name: str = "float_resnet",
) -> keras.Model:
    r"""Builds a residual network with batch norm and two convolutions per block.

    \[ y = \mathrm{ReLU}\big(\mathrm{BN}(W_2 * \mathrm{ReLU}(\mathrm{BN}(W_1 * x)))
       + \mathrm{shortcut}(x)\big) \]

    The shortcut is x itself or, at the start of a new stage, a 1x1 convolution with
    batch norm; each new stage halves the map and doubles the channels. The defaults are
    ResNet-18. For 64 pixels or more the stem is that for ImageNet (7x7, stride 2, max
    pooling), below a 3x3 convolution. The arguments are those of the builders in
    `larq_nobn.models`.

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image
        Recognition", CVPR 2016, arXiv:1512.03385.

    Differences from the paper:
        Stride-2 convolutions pad as TensorFlow does, below and right.
    """
    check_supported("FloatResNet", normalization, ("batch_norm",))
    check_integer("classes", classes, 2, "A classifier needs two.")
    check_integer("width", width, 1, "It is the channel count of the first stage.")
    inputs = keras.Input(input_shape, name="image")
    large = min(input_shape[:2]) >= LARGE
    x = _conv(inputs, width, 7 if large else 3, 2 if large else 1, "stem")
    x = _relu(x, "stem")
    if large:
        x = keras.layers.MaxPool2D(3, 2, padding="same", name="stem_pool")(x)
    for stage, count in enumerate(check_blocks(blocks)):
        for block in range(count):
            strides = 2 if stage > 0 and block == 0 else 1
            called = f"stage{stage + 1}_block{block + 1}"
            branch = _conv(x, width * 2**stage, 3, strides, f"{called}_first")
            branch = _relu(branch, f"{called}_first")
            branch = _conv(branch, width * 2**stage, 3, 1, f"{called}_second")
            if strides > 1:
                x = _conv(x, width * 2**stage, 1, strides, f"{called}_shortcut")
            x = _relu(keras.layers.Add(name=f"{called}_add")([branch, x]), called)
    frame = Frame("FloatResNet", input_shape, classes, width, "dense", name)
    return frame.classifier(inputs, x)


def _conv(x: tf.Tensor, channels: int, size: int, strides: int, name: str) -> tf.Tensor:
    """Adds a convolution and its batch norm."""
    x = keras.layers.Conv2D(
        channels,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return batch_norm(x, f"{name}_norm", start="zeros")


def _relu(x: tf.Tensor, name: str) -> tf.Tensor:
    return keras.layers.ReLU(name=f"{name}_act")(x)
