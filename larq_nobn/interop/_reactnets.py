"""ReActNet-18 and ReActNet-A by the names that published code gives their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._checks import check_bounds
from .._errors import InvalidValue
from .._keras import keras
from ..models import ReActNet18, ReActNetA
from ._half_turn import as_in_pytorch
from ._slots import Slots, batch_norm, convolution, dense, rprelu, shift

State = Mapping[str, np.ndarray]
_CIFAR, _IMAGENET = 32, 224  # pixels


def shape_of(state: State, name: str, rank: int) -> tuple[int, ...]:
    """Returns the shape of a tensor that has to be there."""
    if name not in state or state[name].ndim != rank:
        shape = f"of shape {state[name].shape}" if name in state else "missing"
        raise InvalidValue(
            f"The checkpoint's {name} is {shape}, but a network of the published code "
            f"has one of {rank} axes. Give a checkpoint of that code."
        )
    return state[name].shape


def _image_size(image_size: tuple[int, int] | None, default: int) -> tuple[int, int]:
    """Returns (height, width), those of the published data set if not given."""
    if image_size is None:
        image_size = default, default
    if not isinstance(image_size, tuple | list) or len(image_size) != 2:
        raise InvalidValue(
            f"image_size={image_size!r} is not a size. Give (height, width) as two "
            "whole numbers, such as (224, 224)."
        )
    height, width = (
        int(check_bounds("published_image_size", n, "image_size")) for n in image_size
    )
    return height, width


def _convolution(source: str, norm: str, model: keras.Model, name: str) -> Slots:
    """A convolution, and the batch norm after it if there is one."""
    slots = convolution(source, model.get_layer(f"{name}_conv"))
    if any(layer.name == f"{name}_norm" for layer in model.layers):
        slots |= batch_norm(norm, model.get_layer(f"{name}_norm"))
    return slots


def reactnet18(
    state: State,
    image_size: tuple[int, int] | None,
    arguments: dict[str, Any],
) -> tuple[keras.Model, Slots]:
    """A ReActNet of one convolution per block.

    Arguments:
        state: The tensors of the checkpoint.
        image_size: (height, width), or None for that of the stem.
        arguments: Further arguments of the builder.
    """
    width, channels, kernel, _ = shape_of(state, "conv1.weight", 4)
    # Our builders choose the stem by the size of the image, a checkpoint by itself.
    large = kernel == 7
    side, size = (64, _IMAGENET) if large else (_CIFAR, _CIFAR)
    blocks: list[int] = []
    while any(name.startswith(f"layer{len(blocks) + 1}.") for name in state):
        own = f"layer{len(blocks) + 1}."
        names = (name for name in state if name.startswith(own))
        blocks.append(len({name.split(".")[1] for name in names}))
    name = f"reactnet{sum(blocks) + 2}"
    shape = side, side, channels
    ours = ReActNet18(shape, width=width, blocks=tuple(blocks), name=name, **arguments)
    model = as_in_pytorch(ours, _image_size(image_size, size))
    slots = _convolution("conv1", "bn1", model, "stem")
    slots |= dense("fc", model.get_layer("head"))
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            source, name = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            sign = model.get_layer(f"{name}_conv").input_quantizer
            slots |= shift(f"{source}.move0", sign.shift)
            conv = f"{source}.binary_conv"
            slots |= _convolution(conv, f"{source}.bn1", model, name)
            parts = ("move1", "prelu", "move2")
            slots |= rprelu(source, parts, model.get_layer(f"{name}_act"))
            if stage > 1 and block == 0:
                down = f"{source}.downsample"
                slots |= _convolution(
                    f"{down}.1", f"{down}.2", model, f"{name}_shortcut"
                )
    return model, slots


def _stages(state: State) -> tuple[int, ...]:
    """Blocks per stage of ReActNet-A: a stage starts where a block widens."""
    shape_of(state, "feature.1.binary_3x3.weight", 4)
    blocks: list[int] = []
    while f"feature.{sum(blocks) + 1}.binary_3x3.weight" in state:
        widens = f"feature.{sum(blocks) + 1}.binary_pw_down1.weight" in state
        if widens or not blocks:
            blocks.append(0)
        blocks[-1] += 1
    return tuple(blocks)


def reactnet_a(
    state: State,
    image_size: tuple[int, int] | None,
    arguments: dict[str, Any],
) -> tuple[keras.Model, Slots]:
    """A ReActNet-A; the arguments are those of `reactnet18`."""
    width, channels, _, _ = shape_of(state, "feature.0.conv1.weight", 4)
    ours = ReActNetA(
        (_IMAGENET, _IMAGENET, channels),
        width=width,
        blocks=_stages(state),
        # The published code has no other stem, for small images either.
        stem_stride=2,
        **arguments,
    )
    model = as_in_pytorch(ours, _image_size(image_size, _IMAGENET))
    slots = _convolution("feature.0.conv1", "feature.0.bn1", model, "stem")
    slots |= dense("fc", model.get_layer("head"))
    number = 0
    for stage, count in enumerate(_stages(state), 1):
        for block in range(1, count + 1):
            number += 1
            source, name = f"feature.{number}", f"stage{stage}_block{block}"
            slots |= _spatial(source, model, f"{name}_3x3")
            slots |= _pointwise(source, model, f"{name}_1x1", widens=block == 1)
    return model, slots


def _spatial(source: str, model: keras.Model, name: str) -> Slots:
    sign = model.get_layer(f"{name}_conv").input_quantizer
    parts = ("move12", "prelu1", "move13")
    return {
        **shift(f"{source}.move11", sign.shift),
        **_convolution(f"{source}.binary_3x3", f"{source}.bn1", model, name),
        **rprelu(source, parts, model.get_layer(f"{name}_act")),
    }


def _pointwise(source: str, model: keras.Model, name: str, widens: bool) -> Slots:
    parts = ("move22", "prelu2", "move23")
    slots = rprelu(source, parts, model.get_layer(f"{name}_act"))
    if not widens:
        sign = model.get_layer(f"{name}_conv").input_quantizer
        slots |= _convolution(f"{source}.binary_pw", f"{source}.bn2", model, name)
    else:
        sign = model.get_layer(f"{name}_sign")
        for half, letter in enumerate("ab", 1):
            conv, norm = f"{source}.binary_pw_down{half}", f"{source}.bn2_{half}"
            slots |= _convolution(conv, norm, model, f"{name}{letter}")
    return {**slots, **shift(f"{source}.move21", sign.shift)}
