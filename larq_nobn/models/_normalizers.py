"""What stands after a convolution under each normalization.

Each takes the feature map, a name, and whether it stands in a residual branch: only
there a normalizer that is also an activation has a place of its own. Elsewhere it is
the same statistics without one, or, where the table says so, beside branches nothing.
The last argument is where a learned bias starts: `START` before signs, which group and
proxy norm do without, since they subtract the mean of each example.

What else is known of them is in the table of `_normalizations.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from .._keras import keras
from ..layers import (
    DynamicTanh,
    EvoNormS0,
    FilterResponseNormalization,
    ProxyNormalization,
)
from ._normalizations import NORMALIZATIONS
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


def filter_response(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    # A single position has no root mean square to speak of: the paper learns ε there.
    single = max(x.shape[1:3]) == 1
    norm = FilterResponseNormalization(
        learned_epsilon=single, beta_initializer=start, name=name
    )
    return norm(x)


def group(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    groups = _groups(x.shape[-1])
    norm = keras.layers.GroupNormalization(groups, epsilon=_EPSILON, name=name)
    return norm(x)


def proxy(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    # Leaky as the network's own PReLU; both have moments in closed form.
    activation = "leaky_relu" if branch else "linear"
    return ProxyNormalization(activation, num_samples=None, name=name)(x)


def evonorm(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    if not branch:
        return group(x, name, branch, start)
    groups = _groups(x.shape[-1])
    return EvoNormS0(groups, beta_initializer=start, name=name)(x)


def dynamic_tanh(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    return DynamicTanh(beta_initializer=start, name=name)(x)


NORMALIZERS: dict[str, Callable[[tf.Tensor, str, bool, Any], tf.Tensor]] = {
    name: globals()[name] if known.after else _unchanged
    for name, known in NORMALIZATIONS.items()
}
# What these compute in training depends on the other examples of a batch.
BATCH_STATISTICS = frozenset(n for n, known in NORMALIZATIONS.items() if known.batch)
BEFORE_SIGN = tuple(n for n, known in NORMALIZATIONS.items() if known.before_sign)
CONCATENATED = tuple(n for n, known in NORMALIZATIONS.items() if known.concatenated)
