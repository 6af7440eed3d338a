"""The input and the classifier of every network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from .._checks import check_blocks, check_choice, check_integer
from .._errors import InvalidValue
from .._keras import keras
from ..layers import SymmetricHead
from ._normalizations import normalization_of
from ._own import is_own

HEADS: dict[str, Callable[..., keras.layers.Layer]] = {
    "dense": keras.layers.Dense,
    "symmetric": SymmetricHead,
}


@dataclass(frozen=True)
class Frame:
    """The two ends of a network; the fields are arguments of `ReActNet18`."""

    network: str  # its name in error messages
    input_shape: Sequence[int]
    classes: int
    width: int
    head: str
    name: str

    def image(self, smallest: int) -> tf.Tensor:
        """Returns the input, if height and width are at least `smallest` pixels."""
        shape = check_image_shape(self.input_shape, smallest, self.network)
        check_integer("classes", self.classes, 2, "A classifier needs two.")
        advice = "It is the channel count of the first stage."
        check_integer("width", self.width, 2, advice)
        check_choice("head", self.head, HEADS)
        return keras.Input(shape, name="image")

    def stages(self, blocks: Sequence[int], most: int) -> tuple[int, ...]:
        """Returns the number of blocks per stage, of at most `most` stages."""
        stages = check_blocks(blocks)
        if len(stages) > most:
            raise InvalidValue(
                f"blocks={blocks!r} has {len(stages)} stages, but {self.network} has "
                f"at most {most}. Give {most} whole numbers or fewer."
            )
        return stages

    def classifier(
        self, image: tf.Tensor, x: tf.Tensor, flat: bool = False
    ) -> keras.Model:
        """Returns the network with a `head` on the averages of `x`, or on all of it."""
        if flat:
            x = keras.layers.Flatten(name="flat")(x)
        else:
            x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        head = HEADS[self.head](self.classes, name="head", dtype="float32")
        return keras.Model(image, head(x), name=self.name)


def check_image_shape(
    input_shape: object, smallest: int, name: str
) -> tuple[int, int, int]:
    """Returns (height, width, channels), if each is known and large enough."""
    if (
        not isinstance(input_shape, Sequence)
        or len(input_shape) != 3
        or any(isinstance(n, bool) or not isinstance(n, int) for n in input_shape)
    ):
        raise InvalidValue(
            f"input_shape={input_shape!r} is not an image shape. {name} takes (height, "
            "width, channels) as three whole numbers, such as (32, 32, 3)."
        )
    height, width, channels = input_shape
    if min(height, width) < smallest or channels < 1:
        raise InvalidValue(
            f"input_shape={tuple(input_shape)} is too small for this {name}, which "
            f"halves it in every stage; height and width must be {smallest} or more, "
            "channels 1 or more. Use a larger image, or fewer stages (`blocks`)."
        )
    return height, width, channels


def check_supported(name: str, normalization: Any, supported: Sequence[str]) -> None:
    """Raises if a normalization is unknown, or not supported by this network."""
    normalization_of(normalization)
    if not is_own(normalization) and normalization not in supported:
        raise InvalidValue(
            f"normalization={normalization!r} is not supported by {name}. Choose from "
            f"{', '.join(supported)}."
        )
