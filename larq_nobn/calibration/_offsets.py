"""Which means that a batch norm would take away are still in a tensor."""

from __future__ import annotations

import tensorflow as tf

from .._keras import keras
from ..graph import (
    SUMS,
    TRAINING_ONLY,
    Call,
    commutation,
    is_channels_last,
    kernels_of,
    symbol_of,
    weights_of_sum,
)
from ..layers import SkipInit
from ..models._channel_padding import ChannelPadding
from ._walk import Values

_layers = keras.layers
# A constant per channel passes these with a factor, or beside other channels.
_PASSING = (_layers.Concatenate, _layers.Rescaling, ChannelPadding, SkipInit)


def is_linear(layer: keras.layers.Layer) -> bool:
    """Returns whether batch norm could follow a layer with weights."""
    plain = getattr(layer, "activation", None) in (None, keras.activations.linear)
    return kernels_of(layer) is not None and plain and is_channels_last(layer)


def passed_on(call: Call, values: Values) -> tf.Tensor | None:
    """The offset of what a call that has no weights makes of its inputs."""
    offsets = {key: value.offset for key, value in values.items()}
    found = [offset for offset in offsets.values() if offset is not None]
    if not found:
        return None
    if isinstance(call.layer, TRAINING_ONLY):
        return found[0]
    is_sum = weights_of_sum(call) is not None or symbol_of(call.layer) in SUMS
    if not (is_sum or commutation(call).shift or type(call.layer) in _PASSING):
        return None
    zeros = {
        key: tf.zeros((1, *value.parts[0].shape[1:])) for key, value in values.items()
    }
    given = {key: zeros[key] if o is None else o for key, o in offsets.items()}
    return _at(call, given) - _at(call, zeros)


def _at(call: Call, tensors: dict[str, tf.Tensor]) -> tf.Tensor:
    args, kwargs = call.arguments(tensors)
    # Not the layer itself, which would cast to half precision under such a policy.
    return call.layer.call(*args, **kwargs)
