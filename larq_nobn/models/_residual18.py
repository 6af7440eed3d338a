"""The common part of residual networks with 18 layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._checks import check_blocks
from .._keras import keras
from ._frame import Frame
from ._parts import Parts
from ._variance import check_variance, expected_variances


def _prelu(name: str) -> keras.layers.Layer:
    """Returns a PReLU with a slope per channel, which starts at 0.25 as in PyTorch."""
    leak = keras.initializers.Constant(0.25)
    return keras.layers.PReLU(leak, shared_axes=[1, 2], name=name)


def residual18(
    frame: Frame,
    parts: Parts,
    blocks: Sequence[int],
    alpha: float,
    variance_rule: str,
    *,
    activation: Callable[[str], keras.layers.Layer] | None = None,
    scaled_shortcut: bool = False,
    **projection: bool,
) -> keras.Model:
    """Builds a network of blocks that add alpha·conv(sign(beta·x)) to x.

    Arguments:
        activation: Function that makes the layer after every sum; None for a PReLU
            before the blocks and one after them.
        scaled_shortcut: Whether the shortcuts of new stages have the factor beta.
        **projection: Arguments of `Parts.projection` for these shortcuts.
    """
    stages = check_blocks(blocks)
    image = frame.image(2 ** (len(stages) - 1))
    check_variance(alpha, variance_rule)
    first = _prelu("stem_act") if activation is None else None
    x = parts.stem(image, frame.width, first)
    for stage, variances in enumerate(expected_variances(stages, alpha, variance_rule)):
        channels = frame.width * 2**stage
        for number, variance in enumerate(variances):
            strides = 2 if stage > 0 and number == 0 else 1
            name, beta = f"stage{stage + 1}_block{number + 1}", variance**-0.5
            branch = parts.binary_conv(x, channels, 3, strides, name, alpha, beta)
            if strides == 2:
                scale, shortcut = beta if scaled_shortcut else 1.0, f"{name}_shortcut"
                x = parts.projection(x, channels, shortcut, scale, **projection)
            x = parts.add(branch, x, name)
            if activation is not None:
                x = parts.activate(x, activation(f"{name}_act"))
    if activation is None:
        x = parts.activate(x, _prelu("last_act"))
    return frame.classifier(image, x)
