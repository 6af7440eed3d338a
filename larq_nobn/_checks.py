"""Argument checks whose messages say what was given, what is allowed, what to do."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from ._errors import InvalidType, InvalidValue

# Squares or sums of larger numbers are infinite in float32; smaller numbers are 0.
_LARGEST, _SMALLEST = 1e30, 2.0**-126
# The range of a whole number (least, most) or of a real one (an interval), and advice.
# Upper bounds are far above useful values; beyond them TensorFlow fails with errors
# that name no option.
Bounds = tuple[tuple[int, int] | str, str]
# Bounds of arguments; those of settings are in `config/`.
BOUNDS: dict[str, Bounds] = {
    "batch_size": ((1, 1_000_000), "Take 128 if memory allows."),
    "blocks": ((1, 10_000), "Every stage needs a block."),
    "seed": ((0, 2**32 - 1), "Any whole number from 0 will do."),
    "limit": ((1, 2**31 - 1), "Leave it out to use all images."),
    "image_size": ((4, 16_384), "Take 32 to 224 pixels."),
    "mixup": ("[0, 1e4]", "0 is none, 0.2 is usual."),
    "cutmix": ("[0, 1e4]", "0 is none, 1 is usual."),
    "published_image_size": ((8, 16_384), "Published networks need 8 pixels or more."),
    "alpha": ("(0, inf)", "Published networks have 0.2 or 0.25."),
    "top": ((1, 1_000_000), "3 is usual."),
    "checkpoint_steps": ((1, 2**31 - 1), "Leave it out for one every ten minutes."),
    "jobs": ((1, 10_000), "Leave it out to train one after the other."),
    "wait": ("(0, 604800]", "600 seconds are usual."),
    "runs": ((1, 1_000_000), "50 give a steady median."),
    "warmup": ((0, 1_000_000), "5 suit most files."),
    "threads": ((1, 1_024), "Devices are mostly measured with 1 and 4."),
    "samples": ((1, 1_000_000), "16 is a good start."),
    "tolerance": ("(0, 1e6]", "1e-3 suits most networks."),
}


def check_number(name: str, value: object, interval: str, advice: str) -> float:
    """Returns `value` as a float if it is a number inside `interval`.

    The interval is in mathematical notation, such as `"(0, inf)"` or `"[0, 1)"`. The
    advice is a sentence that says what to do instead.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(
            f"{name}={value!r} is not a number; it must lie in {interval}. {advice}"
        )
    size: Any = abs(value)
    if _LARGEST < size < math.inf:
        raise InvalidValue(
            f"{name}={value} is too large for numbers of 32 bits, which end at "
            f"{_LARGEST:g} here. {advice}"
        )
    number = float(value)
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    if not (above and below):  # also for NaN
        raise InvalidValue(f"{name}={value} is outside {interval}. {advice}")
    if interval.startswith("(0,") and number < _SMALLEST:
        raise InvalidValue(f"{name}={value} is 0 in float32. {advice}")
    return number


def check_integer(
    name: str, value: object, at_least: int, advice: str, at_most: int = 2**31 - 1
) -> int:
    """Returns `value` as an int if it is a whole number from `at_least` to `at_most`.

    TensorFlow counts in 32 bits, whose largest number is the default limit.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidType(
            f"{name}={value!r} is not a whole number; it must be {at_least} or more. "
            f"{advice}"
        )
    number = int(value)
    if number < at_least:
        raise InvalidValue(f"{name}={value} is below {at_least}. {advice}")
    if number > at_most:
        raise InvalidValue(f"{name}={value} is above {at_most}. {advice}")
    return number


def check_bounds(name: str, value: object, called: str | None = None) -> float:
    """Returns an argument if it is within its bounds in `BOUNDS`.

    Messages use the name `called`, if given.
    """
    return check_within(called or name, value, BOUNDS[name])


def check_within(name: str, value: object, bounds: Bounds) -> float:
    """Returns a number if it is within (least, most) or an interval."""
    within, advice = bounds
    if isinstance(within, str):
        return check_number(name, value, within, advice)
    return check_integer(name, value, within[0], advice, within[1])


def check_path(name: str, value: str | os.PathLike) -> str:
    """Returns `value` as text if it is a path; empty text would mean this folder."""
    wanted = "a path. Give that of a file or folder"
    path = os.fspath(check_kind(name, value, (str, os.PathLike), wanted))
    if not path:
        raise InvalidValue(f"{name}={value!r} is empty. Give a path.")
    if "\0" in path:
        raise InvalidValue(
            f"{name}={value!r} is not a path: it contains a zero. Give a path."
        )
    return path


def check_kind(name: str, value: Any, kinds: Any, wanted: str) -> Any:
    """Returns `value` if it has one of these types, which `wanted` describes."""
    if not isinstance(value, kinds):
        raise InvalidType(
            f"{name} is of type {type(value).__name__}, but it must be {wanted}."
        )
    return value


def check_list(name: str, value: Any) -> tuple[Any, ...]:
    """Returns the elements of `value` if it is a list, a range or an array."""
    listed = isinstance(value, Iterable) and getattr(value, "ndim", 1) == 1
    if not listed or isinstance(value, str | bytes | Mapping):
        raise InvalidType(
            f"{name} is of type {type(value).__name__}, but it must be a list."
        )
    return tuple(value)


def check_flag(name: str, value: object) -> bool:
    """Returns `value` if it is True or False."""
    if not isinstance(value, bool):
        raise InvalidType(
            f"{name}={value!r} is neither True nor False. Pass one of them."
        )
    return value


def check_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Returns `value` if it is one of the `allowed` words."""
    words = tuple(allowed)
    if not isinstance(value, str) or value not in words:
        raise InvalidValue(f"{name} must be one of {', '.join(words)}; got {value!r}.")
    return str(value)


def check_channels(owner: str, shape: Sequence[int | None] | None) -> int:
    """Returns the size of the last axis of an input `shape`, if that is known."""
    if shape is None or len(shape) < 2 or shape[-1] is None:
        raise InvalidValue(
            f"{owner} got an input of shape {shape}, but it needs a batch axis and a "
            "known number of channels. Give the input layer its shape."
        )
    return int(shape[-1])


def check_blocks(blocks: object) -> tuple[int, ...]:
    """Returns the number of blocks in each stage of a network, as a tuple."""
    message = (
        f"blocks={blocks!r} is not a list of blocks per stage. Give one whole number "
        "per stage, such as (4, 4, 4, 4)."
    )
    if not isinstance(blocks, (tuple, list)):
        raise InvalidType(message)
    if not blocks:
        raise InvalidValue(message)
    return tuple(int(check_bounds("blocks", count)) for count in blocks)


def check_size(size: object, bounds: str = "image_size") -> tuple[int, int] | None:
    """Returns (height, width) for a number or a pair, and None for None."""
    if size is None:
        return None
    sides = size if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2:
        raise InvalidValue(
            f"image_size={size!r} is not a pair. Give height and width, or one number."
        )
    height, width = (int(check_bounds(bounds, each, "image_size")) for each in sides)
    return height, width
