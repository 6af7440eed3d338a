"""What stands after a convolution under each normalization.

Each takes the feature map, a name, and whether it stands in a residual branch: only
there a normalizer that is also an activation has a place of its own. Elsewhere it is
the same statistics without one, or, of `IN_BRANCHES`, beside branches nothing. The last
argument is where a learned bias starts: `START` before signs, which group
and proxy norm do without, since they subtract the mean of each example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._keras import keras
from .._names import NORMALIZATIONS
from ..layers import (
    DynamicTanh,
    EvoNormS0,
    FilterResponseNormalization,
    ProxyNormalization,
)
from ._offset import START

_EPSILON = 1e-5
# PyTorch's defaults, with which the published baselines were trained.
BATCH_NORM = {"momentum": 0.9, "epsilon": _EPSILON}
_CHANNELS_PER_GROUP = 16


def _groups(channels: int) -> int:
    """Groups of 16 channels, or one group where that leaves a rest."""
    return 1 if channels % _CHANNELS_PER_GROUP else channels // _CHANNELS_PER_GROUP


def _unchanged(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    return x


def batch_norm(
    x: tf.Tensor, name: str, branch: bool = True, start: Any = START
) -> tf.Tensor:
    """Keras' batch norm of `x`."""
    norm = keras.layers.BatchNormalization(
        name=name, beta_initializer=start, **BATCH_NORM
    )
    return norm(x)


def _filter_response(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    # A single position has no root mean square to speak of: the paper learns ε there.
    single = max(x.shape[1:3]) == 1
    norm = FilterResponseNormalization(
        learned_epsilon=single, beta_initializer=start, name=name
    )
    return norm(x)


def _group(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    groups = _groups(x.shape[-1])
    norm = keras.layers.GroupNormalization(groups, epsilon=_EPSILON, name=name)
    return norm(x)


def _proxy(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    # Leaky as the network's own PReLU; both have moments in closed form.
    activation = "leaky_relu" if branch else "linear"
    return ProxyNormalization(activation, num_samples=None, name=name)(x)


def _evonorm(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    if not branch:
        return _group(x, name, branch, start)
    groups = _groups(x.shape[-1])
    return EvoNormS0(groups, beta_initializer=start, name=name)(x)


def _dynamic_tanh(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    return DynamicTanh(beta_initializer=start, name=name)(x)


# What these compute in training depends on the other examples of a batch.
BATCH_STATISTICS = frozenset({"batch_norm", "kalman", "independent_component"})
NORMALIZERS: dict[str, Callable[[tf.Tensor, str, bool, Any], tf.Tensor]] = {
    "batch_norm": batch_norm,
    "none": _unchanged,
    "nobn": _unchanged,
    "filter_response": _filter_response,
    "proxy": _proxy,
    "group": _group,
    "kalman": _unchanged,  # carries moments along: `_moments.py`
    "independent_component": _unchanged,  # stands before the convolution
    "evonorm": _evonorm,
    "dynamic_tanh": _dynamic_tanh,
}
# Better where the stem and the projections of shortcuts, to which branches are added,
# have none, by results/init_and_placement/.
IN_BRANCHES = frozenset({"filter_response", "proxy", "evonorm"})
# Before a sign EvoNorm would be group norm, and Proxy Norm, without the activation that
# it makes up for, layer norm: neither could show what it is for.
BEFORE_SIGN = tuple(n for n in NORMALIZATIONS if n not in ("evonorm", "proxy"))
