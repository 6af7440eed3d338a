"""Argument checks whose messages say what was given, what is allowed, what to do."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from numbers import Integral, Real


def check_number(name: str, value: object, interval: str, advice: str) -> float:
    """Returns `value` as a float if it is a number inside `interval`.

    Arguments:
        name: The argument's name, for the message.
        value: What was given.
        interval: Mathematical notation, `"(0, inf)"` or `"[0, 1)"`.
        advice: A sentence that says what to do instead.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If it is not a number inside the interval.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{name}={value!r} is not a number; it must lie in {interval}. {advice}"
        )
    number = float(value)
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    if math.isnan(number) or not (above and below):
        raise ValueError(f"{name}={value} is outside {interval}. {advice}")
    return number


def check_integer(name: str, value: object, at_least: int, advice: str) -> int:
    """Returns `value` as an int if it is a whole number of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(
            f"{name}={value!r} is not a whole number; it must be {at_least} or more. "
            f"{advice}"
        )
    if value < at_least:
        raise ValueError(f"{name}={value} is below {at_least}. {advice}")
    return int(value)


def check_path(name: str, value: str | os.PathLike) -> str:
    """Returns `value` as text if it is not empty, which would mean this folder."""
    if not os.fspath(value):
        raise ValueError(f"{name}={value!r} is empty. Give a path.")
    return os.fspath(value)


def check_flag(name: str, value: object) -> bool:
    """Returns `value` if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(
            f"{name}={value!r} is neither True nor False. Pass one of them."
        )
    return value


def check_choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Returns `value` if it is one of the `allowed` words."""
    words = tuple(allowed)
    if value not in words:
        raise ValueError(
            f"{name}={value!r} is not known. Choose from {', '.join(words)}."
        )
    return str(value)


def check_channels(owner: str, shape: Sequence[int | None] | None) -> int:
    """Returns the size of the last axis of an input `shape`, if that is known."""
    if shape is None or len(shape) < 2 or shape[-1] is None:
        raise ValueError(
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
        raise TypeError(message)
    if not blocks:
        raise ValueError(message)
    advice = "Every stage needs a block."
    return tuple(check_integer("blocks", count, 1, advice) for count in blocks)
