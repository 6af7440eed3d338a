"""What stands behind a convolution under each normalization."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from .._keras import keras
from ..layers import FilterResponseNormalization

# PyTorch's default, with which the published baselines were trained.
_EPSILON = 1e-5
_CHANNELS_PER_GROUP = 16


def _groups(channels: int) -> int:
    """Groups of 16 channels, or one group where that leaves a rest."""
    return 1 if channels % _CHANNELS_PER_GROUP else channels // _CHANNELS_PER_GROUP


def _unchanged(x: tf.Tensor, name: str) -> tf.Tensor:
    return x


def _batch_norm(x: tf.Tensor, name: str) -> tf.Tensor:
    norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=_EPSILON, name=name)
    return norm(x)


def _filter_response(x: tf.Tensor, name: str) -> tf.Tensor:
    # A single position has no root mean square to speak of: the paper learns ε there.
    single = max(x.shape[1:3]) == 1
    return FilterResponseNormalization(learned_epsilon=single, name=name)(x)


def _group(x: tf.Tensor, name: str) -> tf.Tensor:
    groups = _groups(x.shape[-1])
    norm = keras.layers.GroupNormalization(groups, epsilon=_EPSILON, name=name)
    return norm(x)


# What these compute in training depends on the other examples of a batch.
BATCH_STATISTICS = frozenset({"batch_norm"})
NORMALIZERS: dict[str, Callable[[tf.Tensor, str], tf.Tensor]] = {
    "batch_norm": _batch_norm,
    "none": _unchanged,
    "nobn": _unchanged,
    "filter_response": _filter_response,
    "group": _group,
}
