"""The networks of ReCU's code, each told by the names in its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from .._keras import keras
from ._assembly import Assembly, clip
from ._half_turn import HalfTurn
from ._recu_blocks import (
    Shortcut,
    averaged,
    padded,
    projected,
    shifted,
    sum_each,
    sum_once,
)
from ._shapes import State, count_blocks, shape_of

Size = tuple[int, int]
_POOLS = 3  # of VGG-small, 2x2 each


class Style(NamedTuple):
    """What the residual networks differ in.

    Arguments:
        name: What the model is called.
        first: The first convolution of a block.
        stem: Convolution and batch norm of the stem.
        clipped: Whether a hard tanh stands after them.
        block: What a block computes.
        shortcut: That of a block of stride 2.
        norm: The batch norm before the dense layer, if any.
        head: The dense layer.
    """

    name: str
    first: str
    stem: tuple[str, str]
    clipped: bool
    block: Callable[..., tf.Tensor]
    shortcut: Shortcut
    norm: str | None
    head: str


_STEM = ("conv1", "bn1")
_RESNET20 = Style(
    "recu_resnet20", "conv1", _STEM, True, sum_each, padded, "bn2", "linear"
)
_RESNET18 = Style(
    "recu_resnet18", "conv1", _STEM, False, sum_once, padded, "bn2", "linear"
)
_IMAGENET = Style("recu_resnet", "conv1", _STEM, True, sum_each, projected, "bn2", "fc")
_REACTNET = Style(
    "recu_reactnet", "conv", ("conv", "bn"), False, shifted, averaged, None, "fc"
)


def style_of(state: State) -> Style | None:
    """The residual network that has tensors of these names."""
    if "layer1.0.conv.alpha" in state:
        return _REACTNET
    if "layer1.0.conv1.alpha" not in state:
        return None
    if "linear.weight" not in state:
        return _IMAGENET
    return _RESNET18 if "layer4.0.conv1.weight" in state else _RESNET20


def is_strided(state: State, style: Style) -> bool:
    """Whether the stem is the one for large images: 7x7, stride 2, max pooling."""
    return shape_of(state, f"{style.stem[0]}.weight", 4)[2] == 7


def residual(net: Assembly, style: Style, size: Size) -> keras.Model:
    """A residual network."""
    conv, norm = style.stem
    image = keras.Input(
        (*size, shape_of(net.state, f"{conv}.weight", 4)[1]), name="image"
    )
    x = HalfTurn(name="turn")(image)
    strided = is_strided(net.state, style)
    x = net.norm(net.real_conv(x, conv, "stem", 2 if strided else 1), norm, "stem")
    if style.clipped:
        x = clip(x, "stem")
    if strided:
        x = keras.layers.MaxPool2D(3, 2, padding="same", name="stem_pool")(x)
    blocks = count_blocks(net.state, f"layer{{}}.{{}}.{style.first}.weight")
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            source, name = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            shortcut = style.shortcut if stage > 1 and block == 0 else None
            x = style.block(net, x, source, name, shortcut)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    if style.norm:
        x = net.norm(x, style.norm, "pool")
    return keras.Model(image, net.head(x, style.head), name=style.name)


def vgg_size(state: State) -> Size:
    """The one image size that the dense layer of a VGG-small takes."""
    _, inputs = shape_of(state, "fc.weight", 2)
    positions = inputs // shape_of(state, "conv5.weight", 4)[0]
    side = math.isqrt(positions) * 2**_POOLS
    return side, side


def vgg_small(net: Assembly, size: Size) -> keras.Model:
    """VGG-small, whose last map is laid flat."""
    channels = shape_of(net.state, "conv0.weight", 4)[1]
    image = keras.Input((*size, channels), name="image")
    x = net.norm(net.real_conv(image, "conv0", "stem"), "bn0", "stem")
    x = clip(x, "stem")
    for number in range(1, 6):
        name = f"layer{number}"
        x = net.binary_conv(x, f"conv{number}", name)
        if number % 2:
            x = keras.layers.MaxPool2D(2, name=f"{name}_pool")(x)
        x = clip(net.norm(x, f"bn{number}", name), name)
    positions = x.shape[1], x.shape[2]
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(image, net.head(x, "fc", positions), name="recu_vggsmall")
