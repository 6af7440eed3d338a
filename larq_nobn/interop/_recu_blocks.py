"""The residual blocks of ReCU's code."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from .._keras import keras
from ..layers import RPReLU
from ..layers._channel_padding import ChannelPadding
from ._assembly import Assembly, add, clip
from ._half_turn import from_the_first
from ._slots import rprelu


def padded(net: Assembly, x: tf.Tensor, source: str, name: str) -> tf.Tensor:
    """The 2x2 average of x between channels of zeros."""
    added = net.channels(f"{source}.conv1") - x.shape[-1]
    pool = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_pool")
    pad = ChannelPadding(added // 2, added - added // 2, name=f"{name}_pad")
    return pad(pool(x))


def projected(net: Assembly, x: tf.Tensor, source: str, name: str) -> tf.Tensor:
    """Every second position of x after a 1x1 convolution."""
    x = from_the_first(x, f"{name}_crop")
    x = net.real_conv(x, f"{source}.downsample.0", name, 2)
    return net.norm(x, f"{source}.downsample.1", name)


def averaged(net: Assembly, x: tf.Tensor, source: str, name: str) -> tf.Tensor:
    """The 2x2 average of x after a 1x1 convolution."""
    x = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_pool")(x)
    x = net.real_conv(x, f"{source}.downsample.1", name)
    return net.norm(x, f"{source}.downsample.2", name)


Shortcut = Callable[[Assembly, tf.Tensor, str, str], tf.Tensor]


def _branch(
    net: Assembly, x: tf.Tensor, source: str, name: str, half: int, strides: int = 1
) -> tf.Tensor:
    """The first or second convolution of a block, and its batch norm."""
    x = net.binary_conv(x, f"{source}.conv{half}", name, strides)
    return net.norm(x, f"{source}.bn{half}", name)


def sum_each(
    net: Assembly, x: tf.Tensor, source: str, name: str, shortcut: Shortcut | None
) -> tf.Tensor:
    """A block with a shortcut around each of its convolutions."""
    first, second = f"{name}_first", f"{name}_second"
    branch = _branch(net, x, source, first, 1, 2 if shortcut else 1)
    if shortcut:
        x = shortcut(net, x, source, f"{first}_shortcut")
    x = clip(add(branch, x, first), first)
    branch = _branch(net, x, source, second, 2)
    return clip(add(branch, x, second), second)


def sum_once(
    net: Assembly, x: tf.Tensor, source: str, name: str, shortcut: Shortcut | None
) -> tf.Tensor:
    """A block with one shortcut around both of its convolutions."""
    first, second = f"{name}_first", f"{name}_second"
    branch = _branch(net, x, source, first, 1, 2 if shortcut else 1)
    branch = _branch(net, clip(branch, first), source, second, 2)
    if shortcut:
        x = shortcut(net, x, source, f"{name}_shortcut")
    return clip(add(branch, x, name), name)


def shifted(
    net: Assembly, x: tf.Tensor, source: str, name: str, shortcut: Shortcut | None
) -> tf.Tensor:
    """A block of one convolution between the shifts of ReActNet."""
    strides = 2 if shortcut else 1
    move = f"{source}.move0"
    branch = net.binary_conv(x, f"{source}.conv", name, strides, shifted=move)
    branch = net.norm(branch, f"{source}.bn", name)
    if shortcut:
        x = shortcut(net, x, source, f"{name}_shortcut")
    act = RPReLU(name=f"{name}_act")
    y = act(add(branch, x, name))
    parts = ("move1", "nonlinear", "move2")
    net.slots |= rprelu(source, parts, act)
    return y
