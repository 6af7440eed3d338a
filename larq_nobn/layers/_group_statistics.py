"""Statistics of each example over groups of channels, as in GroupNorm."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from .._checks import check_channels
from .._errors import InvalidValue
from .._math import at_least_float32, squared_offset


def check_groups(owner: str, groups: int, input_shape: Sequence[int | None]) -> None:
    """Raises unless each example splits into equal groups of two values or more."""
    channels = check_channels(owner, input_shape)
    if channels % groups:
        allowed = [str(n) for n in range(1, channels + 1) if channels % n == 0]
        raise InvalidValue(
            f"{owner} got an input of {channels} channels, which groups={groups} does "
            f"not divide. Set groups to one of {', '.join(allowed)}, or change the "
            "number of channels."
        )
    if channels == groups and all(size == 1 for size in input_shape[1:-1]):
        raise InvalidValue(
            f"{owner} got an input of shape {tuple(input_shape)} for groups={groups}, "
            "so every group is a single value, whose variance is 0. Use fewer "
            "groups, or an input with positions."
        )


def group_mean(x: tf.Tensor, groups: int) -> tf.Tensor:
    """Returns means over the positions and channels of groups, in float32 or better.

    Neighboring channels form a group. For x of shape (N, ..., C) the means have shape
    (N, 1, ..., 1, C), or (N, 1, ..., 1, 1) if there is a single group.
    """
    positions = tuple(range(1, x.shape.rank - 1))
    x = at_least_float32(x)
    if groups == 1:
        return tf.reduce_mean(x, (*positions, -1), keepdims=True)
    means = tf.reduce_mean(x, positions, keepdims=True) if positions else x
    channels = x.shape[-1]
    if groups == channels:
        return means
    size = channels // groups
    by_group = tf.reduce_mean(tf.reshape(means, (-1, groups, size)), -1, keepdims=True)
    return tf.reshape(tf.tile(by_group, (1, 1, size)), (-1, *means.shape[1:]))


def group_moments(x: tf.Tensor, groups: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and population variance of each group, shaped as by `group_mean`."""
    mean = group_mean(x, groups)
    return mean, group_mean(squared_offset(x, mean), groups)
