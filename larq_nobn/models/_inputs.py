"""Checks of what every network builder is given."""

from __future__ import annotations

from collections.abc import Sequence

from .._checks import check_choice, check_integer
from .._errors import InvalidValue
from ._head import HEADS
from ._normalizations import NORMALIZATIONS


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


def check_ends(classes: object, width: object, head: object) -> None:
    """Rejects a number of classes or channels, or a head, that no network can have."""
    check_integer("classes", classes, 2, "A classifier needs two.")
    check_integer("width", width, 2, "It is the channel count of the first stage.")
    check_choice("head", head, HEADS)


def check_supported(name: str, normalization: object, supported: Sequence[str]) -> None:
    """Rejects a normalization that there is, but not in this network."""
    check_choice("normalization", normalization, NORMALIZATIONS)
    if normalization not in supported:
        raise InvalidValue(
            f"normalization={normalization!r} is not supported by {name}. Choose from "
            f"{', '.join(supported)}."
        )
