"""Kinds of layers that several passes treat alike."""

from __future__ import annotations

import larq as lq

from ..._keras import keras

_layers = keras.layers

# In a prepared model their kernels are plain numbers.
REAL_KERNELS = (
    _layers.Conv2D,
    _layers.DepthwiseConv2D,
    _layers.Dense,
    lq.layers.QuantConv2D,
    lq.layers.QuantDepthwiseConv2D,
    lq.layers.QuantDense,
)
# P(g x + o) = g P(x) + o for every g and o per channel; of the maximum for g >= 0. What
# pads their input is left out of the average, and of the maximum.
AVERAGES = (_layers.AveragePooling2D, _layers.GlobalAveragePooling2D)
MAXIMA = (_layers.MaxPooling2D, _layers.GlobalMaxPooling2D)


def channels_last(layer: keras.layers.Layer) -> bool:
    """Whether the last axis of a layer's maps is that of the channels."""
    return getattr(layer, "data_format", "channels_last") == "channels_last"
