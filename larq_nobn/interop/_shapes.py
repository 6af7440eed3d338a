"""What the shapes in a checkpoint tell of its network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .._checks import check_bounds
from .._errors import InvalidValue

State = Mapping[str, np.ndarray]
CIFAR, IMAGENET = 32, 224  # pixels


def shape_of(state: State, name: str, rank: int) -> tuple[int, ...]:
    """Returns the shape of a tensor that has to be there."""
    if name not in state or state[name].ndim != rank:
        shape = f"of shape {state[name].shape}" if name in state else "missing"
        raise InvalidValue(
            f"The checkpoint's {name} is {shape}, but a network of the published code "
            f"has one of {rank} axes. Give a checkpoint of that code."
        )
    return state[name].shape


def count_blocks(state: State, name: str) -> tuple[int, ...]:
    """Blocks per stage, of names such as `"layer{}.{}.conv1.weight"`."""
    shape_of(state, name.format(1, 0), 4)
    blocks: list[int] = []
    while name.format(len(blocks) + 1, 0) in state:
        count = 1
        while name.format(len(blocks) + 1, count) in state:
            count += 1
        blocks.append(count)
    return tuple(blocks)


def stem_of(state: State) -> tuple[int, int, tuple[int, int, int]]:
    """Returns the width, the image size and a shape for our builders, from `conv1`.

    They choose the stem by the size of the image, a checkpoint by itself.
    """
    width, channels, kernel, _ = shape_of(state, "conv1.weight", 4)
    if kernel == 7:
        return width, IMAGENET, (64, 64, channels)
    return width, CIFAR, (CIFAR, CIFAR, channels)


def check_image_size(
    image_size: tuple[int, int] | None, default: int
) -> tuple[int, int]:
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
