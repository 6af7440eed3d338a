"""XNOR-Net and Bi-Real Net by the names that published code gives their tensors."""

from __future__ import annotations

from typing import Any

from .._keras import keras
from ..models import BiRealNet18, XNORNet18
from ._shapes import State, check_image_size, count_blocks, stem_of
from ._slots import Slots, convolution, dense, prelu
from ._zero_padded import as_in_pytorch

# Where a shortcut starts with an average, its convolution is the second module.
XNOR, BIREAL = "downsample.0", "downsample.1"
_BUILDERS = {XNOR: (XNORNet18, "xnornet"), BIREAL: (BiRealNet18, "birealnet")}


def residual18(
    state: State,
    image_size: tuple[int, int] | None,
    shortcut: str,
    arguments: dict[str, Any],
) -> tuple[keras.Model, Slots]:
    """A network of one binary convolution per block, between two PReLUs.

    Arguments:
        state: The tensors of the checkpoint.
        image_size: (height, width), or None for that of the stem.
        shortcut: `XNOR` or `BIREAL`: what the code calls a shortcut's convolution.
        arguments: Further arguments of the builder.
    """
    width, default, shape = stem_of(state)
    blocks = count_blocks(state, "layer{}.{}.conv1.weight")
    size = check_image_size(image_size, default)
    builder, name = _BUILDERS[shortcut]
    name = f"{name}{sum(blocks) + 2}"
    ours = builder(shape, width=width, blocks=blocks, name=name, **arguments)
    model = as_in_pytorch(ours, size)
    slots = {
        **convolution("conv1", model.get_layer("stem_conv")),
        **prelu("prelu1", model.get_layer("stem_act")),
        **prelu("prelu2", model.get_layer("last_act")),
        **dense("fc", model.get_layer("head")),
    }
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            source, name = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            slots |= convolution(f"{source}.conv1", model.get_layer(f"{name}_conv"))
            if stage > 1 and block == 0:
                conv = model.get_layer(f"{name}_shortcut_conv")
                slots |= convolution(f"{source}.{shortcut}", conv)
    return model, slots
