"""Checks of what wrappers of optimizers are given."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._checks import check_integer, check_list, check_number
from .._errors import InvalidType, InvalidValue
from .._keras import keras, of_keras_3
from ._clipping import Axes


def resolve_optimizer(optimizer: Any, wrapper: str) -> Any:
    """Returns what `wrapper` wraps: an optimizer, also from its name or config."""
    if isinstance(optimizer, (str, dict)):
        try:
            optimizer = keras.optimizers.get(copy.deepcopy(optimizer))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidValue(why_no_optimizer(optimizer)) from error
    if isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer):
        raise InvalidType(
            f"optimizer is a LossScaleOptimizer, which belongs around {wrapper}: "
            f"inside, gradients are scaled. Write LossScaleOptimizer({wrapper}(...)), "
            "or leave the loss scaling to compile."
        )
    families = (keras.optimizers.Optimizer, keras.optimizers.legacy.Optimizer)
    if not isinstance(optimizer, families):
        raise InvalidType(why_no_optimizer(optimizer))
    return optimizer


def why_no_optimizer(given: Any) -> str:
    """Says of something that is no optimizer of legacy Keras what to pass instead."""
    if of_keras_3(given):
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        return (
            f"optimizer is the {name} of Keras 3, but larq_nobn needs legacy Keras "
            f"(tf_keras), as Larq does. Pass tf_keras.optimizers.{name}(...), or its "
            "name."
        )
    return (
        f"optimizer={given!r} is not a Keras optimizer. Pass an optimizer, its name or "
        "its config."
    )


def check_learning_rate(rate: Any, advice: str) -> Any:
    """Returns a learning rate, a positive number or a schedule."""
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate
    return check_number("learning_rate", rate, "(0, inf)", advice)


def check_patterns(name: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """Returns `patterns` as a tuple if each is a regular expression."""
    if isinstance(patterns, str):
        raise InvalidType(
            f"{name}={patterns!r} is one string, not a tuple of regular expressions. "
            f"Write {name}=({patterns!r},)."
        )
    patterns = check_list(name, patterns)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (TypeError, re.error) as error:
            raise InvalidValue(
                f"{pattern!r} in {name} is not a regular expression ({error}). "
                'Use patterns such as "^head/".'
            ) from None
    return patterns


def check_unit_axes(unit_axes: Mapping[str, Any] | None) -> dict[str, Axes]:
    """Returns `unit_axes` as a dictionary if it leads from patterns to axes."""
    if unit_axes is None:
        return {}
    if not isinstance(unit_axes, Mapping):
        raise InvalidType(
            f"unit_axes={unit_axes!r} is not a dictionary. Give axes by a pattern of "
            'the name, such as {"^head/": (0,)}.'
        )
    check_patterns("unit_axes", list(unit_axes))
    for pattern, axes in unit_axes.items():
        if isinstance(axes, str) or not isinstance(axes, Sequence):
            raise InvalidType(
                f"unit_axes={{{pattern!r}: {axes!r}}} gives no tuple of axes. Write "
                "(0, 1, 2) for a kernel, (0,) for a vector, () for single elements."
            )
        for axis in axes:
            advice = "Use axes such as (0, 1, 2)."
            check_integer("an axis in unit_axes", axis, -8, advice)
    return {pattern: tuple(map(int, axes)) for pattern, axes in unit_axes.items()}
