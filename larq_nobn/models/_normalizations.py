"""The normalizations of networks, by name, and functions that add their layers.

The arguments of such a function are the feature map, a name, whether the layer is in a
residual branch, and the initializer of its bias. A normalizer with an activation has it
only in branches. Before signs the bias starts at `START`; group and proxy norm do not
need that, since they subtract the mean of each example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from .._checks import check_choice
from .._errors import InvalidType
from .._keras import keras
from ..layers import (
    DynamicTanh,
    EvoNormS0,
    FilterResponseNormalization,
    ProxyNormalization,
)
from ._own import found, fresh, is_own

# Added before signs, so that rounding does not decide them. Some sums are exactly 0,
# such as kernels of mean zero times a flat patch. Rounding makes ±1e-9 of such a sum,
# other numbers in Keras than in a file, and a sign makes ±1 of it. The offset is larger
# than such rounding errors, and far smaller than any other input.
OFFSET = 1e-5
# The initial bias of normalizations; biases cost nothing in a file.
START = keras.initializers.Constant(OFFSET)

_EPSILON = 1e-5
# Defaults of PyTorch, which the published baselines use.
BATCH_NORM: dict[str, Any] = {"momentum": 0.9, "epsilon": _EPSILON}
_CHANNELS_PER_GROUP = 16


def _groups(channels: int) -> int:
    """Returns the number of groups of 16 channels, or 1 if they are no multiple."""
    return 1 if channels % _CHANNELS_PER_GROUP else channels // _CHANNELS_PER_GROUP


def _unchanged(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    return x


def batch_norm(
    x: tf.Tensor, name: str, branch: bool = True, start: Any = START
) -> tf.Tensor:
    """Adds Keras' batch norm."""
    norm = keras.layers.BatchNormalization(
        name=name, beta_initializer=start, **BATCH_NORM
    )
    return norm(x)


def filter_response(x: tf.Tensor, name: str, branch: bool, start: Any) -> tf.Tensor:
    # For a single position the paper learns ε.
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
    # A leaky ReLU is close to the network's PReLU, and both have exact moments.
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
    """The properties of a normalization.

    Attributes:
        after: Function that adds the layer after convolutions.
        batch: Whether its output in training depends on other examples of the batch.
        beside: Whether the stem and the projections of shortcuts, to which branches are
            added, have it too. By results/init_and_placement/ some are better without.
        before_sign: Whether it is useful before a sign. There, without an activation,
            EvoNorm would be group norm, and Proxy Norm layer norm.
        scaled: Whether it, or the kernel, sets the scale of convolutions. If not,
            latent weights start from Glorot's larger ones. So do those of EvoNorm and
            DyT, whose activations are linear near 0.001 but not near 1.
        centered: Whether it subtracts a mean.
        concatenated: Whether it suits networks with concatenated or rectified features.
            In these, Batch Kalman normalization would never have a prior, since it
            propagates moments only through sums, signs and kernels.
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
    # Added by `models/_moments.py`.
    "kalman": Normalization(batch=True, concatenated=False),
    # Added before convolutions.
    "independent_component": Normalization(batch=True, scaled=False),
    "evonorm": Normalization(evonorm, beside=False, before_sign=False, scaled=False),
    "dynamic_tanh": Normalization(dynamic_tanh, scaled=False, centered=False),
}


def normalization_of(name: Any) -> Normalization:
    """Returns the properties of a normalization, which may be a user's layer.

    Raises:
        TypeError, ValueError: If there is none of this name, or it is not a layer.
    """
    if not is_own(name):
        return NORMALIZATIONS[check_choice("normalization", name, NORMALIZATIONS)]
    layer = found("normalization", name)
    kind = layer if isinstance(layer, type) else type(layer)
    if not issubclass(kind, keras.layers.Layer):
        raise InvalidType(
            f"normalization={name!r} is not a layer. Pass a layer, its class or its "
            f"registered name, or one of {', '.join(NORMALIZATIONS)}."
        )
    return Normalization(
        lambda x, name, branch, start: fresh("normalization", layer, name)(x)
    )


BATCH_STATISTICS = frozenset(n for n, norm in NORMALIZATIONS.items() if norm.batch)
BEFORE_SIGN = tuple(n for n, norm in NORMALIZATIONS.items() if norm.before_sign)
CONCATENATED = tuple(n for n, norm in NORMALIZATIONS.items() if norm.concatenated)
