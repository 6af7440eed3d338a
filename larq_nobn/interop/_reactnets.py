"""ReActNet-18 and ReActNet-A by the names that published code gives their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._errors import InvalidValue
from .._keras import keras
from ..models import ReActNet18, ReActNetA
from ._half_turn import as_in_pytorch
from ._slots import Slots, batch_norm, convolution, dense, rprelu, shift

State = Mapping[str, np.ndarray]
Size = tuple[int, int] | None  # (height, width); None for that of the stem
_CIFAR, _IMAGENET = (32, 32), (224, 224)  # pixels


def shape_of(state: State, name: str, rank: int) -> tuple[int, ...]:
    """Returns the shape of a tensor that has to be there."""
    if name not in state or state[name].ndim != rank:
        shape = f"of shape {state[name].shape}" if name in state else "missing"
        raise InvalidValue(
            f"The checkpoint's {name} is {shape}, but a network of the published code "
            f"has one of {rank} axes. Give a checkpoint of that code."
        )
    return state[name].shape


def _convolution(source: str, norm: str, model: keras.Model, name: str) -> Slots:
    """A convolution, and the batch norm after it if there is one."""
    slots = convolution(source, model.get_layer(f"{name}_conv"))
    if any(layer.name == f"{name}_norm" for layer in model.layers):
        slots |= batch_norm(norm, model.get_layer(f"{name}_norm"))
    return slots


def _binary(source: str, parts: str, model: keras.Model, name: str) -> Slots:
    """A binary convolution with its sign, its batch norm, and three parts of RPReLU."""
    sign, conv, norm, *activation = (f"{source}.{part}" for part in parts.split())
    return {
        **shift(sign, model.get_layer(f"{name}_conv").input_quantizer.shift),
        **_convolution(conv, norm, model, name),
        **rprelu(model.get_layer(f"{name}_act"), *activation),
    }


def reactnet18(
    state: State, image_size: Size, **arguments: Any
) -> tuple[keras.Model, Slots]:
    """A ReActNet of one convolution per block, with these arguments of its builder."""
    width, channels, kernel, _ = shape_of(state, "conv1.weight", 4)
    # Our builders choose the stem by the size of the image, a checkpoint by itself.
    shape, size = ((64, 64), _IMAGENET) if kernel == 7 else (_CIFAR, _CIFAR)
    blocks: list[int] = []
    while any(name.startswith(f"layer{len(blocks) + 1}.") for name in state):
        own = f"layer{len(blocks) + 1}."
        names = (name for name in state if name.startswith(own))
        blocks.append(len({name.split(".")[1] for name in names}))
    ours = ReActNet18(
        (*shape, channels),
        width=width,
        blocks=tuple(blocks),
        name=f"reactnet{sum(blocks) + 2}",
        **arguments,
    )
    model = as_in_pytorch(ours, image_size or size)
    slots = _convolution("conv1", "bn1", model, "stem")
    slots |= dense("fc", model.get_layer("head"))
    parts = "move0 binary_conv bn1 move1 prelu move2"
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            source, name = f"layer{stage}.{block}", f"stage{stage}_block{block + 1}"
            slots |= _binary(source, parts, model, name)
            if stage > 1 and block == 0:
                conv, norm = f"{source}.downsample.1", f"{source}.downsample.2"
                slots |= _convolution(conv, norm, model, f"{name}_shortcut")
    return model, slots


def reactnet_a(
    state: State, image_size: Size, **arguments: Any
) -> tuple[keras.Model, Slots]:
    """A ReActNet-A; the arguments are those of `reactnet18`."""
    width, channels, _, _ = shape_of(state, "feature.0.conv1.weight", 4)
    shape_of(state, "feature.1.binary_3x3.weight", 4)
    blocks: list[int] = []  # of each stage, which starts where a block widens
    while f"feature.{sum(blocks) + 1}.binary_3x3.weight" in state:
        widens = f"feature.{sum(blocks) + 1}.binary_pw_down1.weight" in state
        if widens or not blocks:
            blocks.append(0)
        blocks[-1] += 1
    ours = ReActNetA(
        (*_IMAGENET, channels),
        width=width,
        blocks=tuple(blocks),
        # The published code has no other stem, for small images either.
        stem_stride=2,
        **arguments,
    )
    model = as_in_pytorch(ours, image_size or _IMAGENET)
    slots = _convolution("feature.0.conv1", "feature.0.bn1", model, "stem")
    slots |= dense("fc", model.get_layer("head"))
    spatial = "move11 binary_3x3 bn1 move12 prelu1 move13"
    pointwise = "move21 binary_pw bn2 move22 prelu2 move23"
    number = 0
    for stage, count in enumerate(blocks, 1):
        for block in range(1, count + 1):
            number += 1
            source, name = f"feature.{number}", f"stage{stage}_block{block}"
            slots |= _binary(source, spatial, model, f"{name}_3x3")
            if block > 1:
                slots |= _binary(source, pointwise, model, f"{name}_1x1")
            else:
                slots |= _widening(source, model, f"{name}_1x1")
    return model, slots


def _widening(source: str, model: keras.Model, name: str) -> Slots:
    """Two pointwise convolutions of one sign, side by side."""
    parts = (f"{source}.{part}" for part in ("move22", "prelu2", "move23"))
    slots = rprelu(model.get_layer(f"{name}_act"), *parts)
    slots |= shift(f"{source}.move21", model.get_layer(f"{name}_sign").shift)
    for half, letter in enumerate("ab", 1):
        conv, norm = f"{source}.binary_pw_down{half}", f"{source}.bn2_{half}"
        slots |= _convolution(conv, norm, model, f"{name}{letter}")
    return slots
