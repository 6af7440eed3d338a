"""What residual networks with 18 layers share: all but their blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from .._checks import check_blocks, check_choice, check_number
from .._keras import keras
from .._names import VARIANCE_RULES
from ._head import classifier
from ._inputs import check_ends, check_image_shape
from ._parts import Parts
from ._stem import stem
from ._variance import expected_variances

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
    network: str,
    parts: Parts,
    block: Block,
    input_shape: Sequence[int],
    classes: int,
    width: int,
    blocks: Sequence[int],
    alpha: float,
    variance_rule: str,
    head: str,
    name: str,
    leaky_ends: bool = True,
) -> keras.Model:
    """Blocks of one convolution each in a row.

    Arguments:
        network: What error messages call it.
        parts: Its convolutions.
        block: Makes one.
        input_shape, classes, width, blocks, alpha, variance_rule, head, name: As in
            `ReActNet18`.
        leaky_ends: Whether there is a PReLU before the blocks and one after them.
    """
    stages = check_blocks(blocks)
    shape = check_image_shape(input_shape, 2 ** (len(stages) - 1), network)
    check_ends(classes, width, head)
    check_choice("variance_rule", variance_rule, VARIANCE_RULES)
    check_number("alpha", alpha, "(0, inf)", "Use 0.5.")
    inputs = keras.Input(shape, name="image")
    x = stem(parts, inputs, width, _prelu("stem") if leaky_ends else None)
    for stage, variances in enumerate(expected_variances(stages, alpha, variance_rule)):
        for number, variance in enumerate(variances):
            strides = 2 if stage > 0 and number == 0 else 1
            block_name = f"stage{stage + 1}_block{number + 1}"
            x = block(x, width * 2**stage, strides, block_name, variance**-0.5)
    if leaky_ends:
        x = parts.apply(_prelu("last"), x)
    return classifier(inputs, x, classes, head, name)
