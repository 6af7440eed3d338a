"""The normalizations that networks are built with, by name, and their layers.

A layer is made of the feature map, a name, and whether it stands in a residual branch:
only there a normalizer that is also an activation has a place of its own. Elsewhere it
is the same statistics without one, or, where the table says so, beside branches
nothing. The last argument is where a learned bias starts: `START` before signs, which
group and proxy norm do without, since they subtract the mean of each example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from .._checks import check_choice
from .._keras import keras, registered
from ..layers import (
    DynamicTanh,
    EvoNormS0,
    FilterResponseNormalization,
    ProxyNormalization,
)

# Keeps signs from deciding by rounding: kernels of mean zero make 0 of a flat patch,
# and so do as many +c as -c. Rounding leaves ±1e-9 of that, in Keras otherwise than in
# a file, and a sign makes ±1 of it. This is more than rounding makes of sums that
# should be 0, and far less than any other input.
OFFSET = 1e-5
# Of the biases of normalizations, which cost nothing in a file.
START = keras.initializers.Constant(OFFSET)

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


@dataclass(frozen=True)
class Normalization:
    """What is known of a normalization.

    Attributes:
        after: Makes the layer that stands after convolutions.
        batch: Whether what it computes in training depends on the other examples of a
            batch.
        beside: Whether the stem and the projections of shortcuts, to which branches are
            added, have it too. By results/init_and_placement/ some are better without.
        before_sign: Whether it suits the place before a sign. There EvoNorm would be
            group norm, and Proxy Norm, without the activation that it makes up for,
            layer norm: neither could show what it is for.
        scaled: Whether it, or the kernel, brings convolutions to scale. Else latent
            weights start from Glorot's larger ones; so do those of EvoNorm, whose
            activation needs values near 1 and not near 0.001 to be more than linear,
            and of DyT's tanh.
        centered: Whether it subtracts a mean.
        concatenated: Whether it suits networks whose features are concatenated, or
            rectified. Batch Kalman normalization, which carries moments through sums,
            signs and kernels alone, would never see a prior there.
    """

    after: Callable[[tf.Tensor, str, bool, Any], tf.Tensor] = _unchanged
    batch: bool = False
    beside: bool = True
    before_sign: bool = True
    scaled: bool = True
    centered: bool = True
    concatenated: bool = True


NORMALIZATIONS = {
    "batch_norm": Normalization(batch_norm, batch=True),
    "none": Normalization(scaled=False, centered=False),
    "nobn": Normalization(centered=False),
    "filter_response": Normalization(filter_response, beside=False, centered=False),
    "proxy": Normalization(proxy, beside=False, before_sign=False),
    "group": Normalization(group),
    # Carries moments along: `models/_moments.py`.
    "kalman": Normalization(batch=True, concatenated=False),
    # Stands before the convolution.
    "independent_component": Normalization(batch=True, scaled=False),
    "evonorm": Normalization(evonorm, beside=False, before_sign=False, scaled=False),
    "dynamic_tanh": Normalization(dynamic_tanh, scaled=False, centered=False),
}


def normalization_of(name: Any) -> Normalization:
    """Returns what is known of a normalization; `package>Class` is a layer of a user.

    Raises:
        ValueError: If there is none of this name.
    """
    if not isinstance(name, str) or ">" not in name:
        return NORMALIZATIONS[check_choice("normalization", name, NORMALIZATIONS)]
    layer = registered("normalization", name)
    return Normalization(lambda x, name, branch, start: layer(name=name)(x))


# What these compute in training depends on the other examples of a batch.
BATCH_STATISTICS = frozenset(n for n, known in NORMALIZATIONS.items() if known.batch)
BEFORE_SIGN = tuple(n for n, known in NORMALIZATIONS.items() if known.before_sign)
CONCATENATED = tuple(n for n, known in NORMALIZATIONS.items() if known.concatenated)
