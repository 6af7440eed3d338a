"""What residual networks with 18 layers share: all but their blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from .._checks import check_blocks
from .._keras import keras
from ._frame import Frame
from ._parts import Parts
from ._stem import stem
from ._variance import check_variance, expected_variances

# Of features, channels and strides, with the name of the block and its beta.
Block = Callable[[tf.Tensor, int, int, str, float], tf.Tensor]


def _prelu(name: str) -> keras.layers.Layer:
    """A leak per channel, which starts where PyTorch's does."""
    leak = keras.initializers.Constant(0.25)
    return keras.layers.PReLU(leak, shared_axes=[1, 2], name=f"{name}_act")


def plain_block(parts: Parts, alpha: float, **projection: bool) -> Block:
    """Returns what adds alpha · conv(sign(beta·x)) to x.

    Arguments:
        parts: Its convolutions.
        alpha: Of the branch.
        **projection: Of the shortcut where the stage changes, as in `Parts.projection`.
    """

    def block(
        x: tf.Tensor, channels: int, strides: int, name: str, beta: float
    ) -> tf.Tensor:
        branch = parts.binary_conv(x, channels, 3, strides, name, alpha, beta)
        if strides == 2:
            x = parts.projection(x, channels, 2, f"{name}_shortcut", **projection)
        return parts.apply(keras.layers.Add(name=f"{name}_add"), [branch, x])

    return block


def residual18(
    frame: Frame,
    parts: Parts,
    block: Block,
    blocks: Sequence[int],
    alpha: float,
    variance_rule: str,
    leaky_ends: bool = True,
) -> keras.Model:
    """Blocks of one convolution each in a row.

    Arguments:
        frame: Its ends.
        parts: Its convolutions.
        block: Makes one.
        blocks, alpha, variance_rule: As in `ReActNet18`.
        leaky_ends: Whether there is a PReLU before the blocks and one after them.
    """
    stages = check_blocks(blocks)
    image = frame.image(2 ** (len(stages) - 1))
    check_variance(alpha, variance_rule)
    x = stem(parts, image, frame.width, _prelu("stem") if leaky_ends else None)
    for stage, variances in enumerate(expected_variances(stages, alpha, variance_rule)):
        for number, variance in enumerate(variances):
            strides = 2 if stage > 0 and number == 0 else 1
            name = f"stage{stage + 1}_block{number + 1}"
            x = block(x, frame.width * 2**stage, strides, name, variance**-0.5)
    if leaky_ends:
        x = parts.apply(_prelu("last"), x)
    return frame.classifier(image, x)
