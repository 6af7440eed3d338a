"""Which means that a batch norm would take away are still in a tensor."""

from __future__ import annotations

import tensorflow as tf

from .._keras import keras
from ..graph import TRAINING_ONLY, Call
from ..layers import SkipInit
from ..models._channel_padding import ChannelPadding
from ._walk import Values

_layers = keras.layers
_LINEAR = (
    _layers.Dense,
    _layers.Conv1D,
    _layers.Conv2D,
    _layers.Conv3D,
    _layers.DepthwiseConv1D,
    _layers.DepthwiseConv2D,
    _layers.SeparableConv1D,
    _layers.SeparableConv2D,
)
# What a constant per channel passes, apart from a factor.
_PASSING = (
    _layers.Add,
    _layers.Average,
    _layers.Subtract,
    _layers.Concatenate,
    _layers.AveragePooling1D,
    _layers.AveragePooling2D,
    _layers.AveragePooling3D,
    _layers.GlobalAveragePooling1D,
    _layers.GlobalAveragePooling2D,
    _layers.GlobalAveragePooling3D,
    _layers.MaxPooling1D,
    _layers.MaxPooling2D,
    _layers.MaxPooling3D,
    _layers.GlobalMaxPooling1D,
    _layers.GlobalMaxPooling2D,
    _layers.GlobalMaxPooling3D,
    _layers.Flatten,
    _layers.Rescaling,
    ChannelPadding,
    SkipInit,
)
# What Keras makes of x + y.
_SUMS = ("__operators__.add", "math.add")


def is_linear(layer: keras.layers.Layer) -> bool:
    """Tells whether batch norm could stand behind a layer of weights."""
    plain = getattr(layer, "activation", None) in (None, keras.activations.linear)
    return isinstance(layer, _LINEAR) and plain and is_channels_last(layer)


def is_channels_last(layer: keras.layers.Layer) -> bool:
    """Tells whether the last axis of a layer's output is that of its channels."""
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def passed_on(call: Call, values: Values) -> tf.Tensor | None:
    """The offset of what a call that has no weights makes of its inputs."""
    offsets = {key: value.offset for key, value in values.items()}
    found = [offset for offset in offsets.values() if offset is not None]
    if not found:
        return None
    if isinstance(call.layer, TRAINING_ONLY):
        return found[0]
    is_sum = getattr(call.layer, "symbol", None) in _SUMS
    if not (is_sum or isinstance(call.layer, _PASSING)):
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
