"""How every network starts and ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from .._checks import check_blocks, check_choice, check_integer
from .._errors import InvalidValue
from .._keras import keras
from ..layers import SymmetricHead
from ._normalizations import normalization_of

HEADS: dict[str, Callable[..., keras.layers.Layer]] = {
    "dense": keras.layers.Dense,
    "symmetric": SymmetricHead,
}


@dataclass(frozen=True)
class Frame:
    """The two ends of a network, of arguments as in `ReActNet18`."""

    network: str  # what error messages call it
    input_shape: Sequence[int]
    classes: int
    width: int
    head: str
    name: str

    def image(self, smallest: int) -> tf.Tensor:
        """Where it starts, with height and width of so many pixels or more."""
        shape = check_image_shape(self.input_shape, smallest, self.network)
        check_integer("classes", self.classes, 2, "A classifier needs two.")
        advice = "It is the channel count of the first stage."
        check_integer("width", self.width, 2, advice)
        check_choice("head", self.head, HEADS)
        return keras.Input(shape, name="image")

    def stages(self, blocks: Sequence[int], most: int) -> tuple[int, ...]:
        """Rejects more stages than the network has sizes for."""
        stages = check_blocks(blocks)
        if len(stages) > most:
            raise InvalidValue(
                f"blocks={blocks!r} has {len(stages)} stages, but {self.network} knows "
                f"the sizes of {most}. Give so many whole numbers, or fewer."
            )
        return stages

    def classifier(
        self, image: tf.Tensor, x: tf.Tensor, flat: bool = False
    ) -> keras.Model:
        """The network whose `head` reads the averages of the map `x`, or all of it."""
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
            f"input_shape={input_shape!r} is not an image shape; {name} takes (height, "
            "width, channels) as three whole numbers. Pass, for example, (32, 32, 3)."
        )
    height, width, channels = input_shape
    if min(height, width) < smallest or channels < 1:
        raise InvalidValue(
            f"input_shape={tuple(input_shape)} is too small for this {name}, which "
            f"halves it until nothing is left; height and width must be {smallest} or "
            "more, channels 1 or more. Use a larger image, or fewer stages if it has "
            "`blocks`."
        )
    return height, width, channels


def check_supported(name: str, normalization: str, supported: Sequence[str]) -> None:
    """Rejects a normalization that there is, but not in this network."""
    normalization_of(normalization)
    if normalization not in supported and ">" not in normalization:
        raise InvalidValue(
            f"normalization={normalization!r} is not supported by {name}. Choose from "
            f"{', '.join(supported)}."
        )
