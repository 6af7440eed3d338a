"""Kinds of layers that several passes treat alike."""

from __future__ import annotations

import larq as lq

from ..._keras import keras

_layers = keras.layers

# In a prepared model their kernels are plain numbers. Of the layers whose kernels
# `graph` knows, these are the ones of which files are compared with the model.
REAL_KERNELS = (
    _layers.Conv2D,
    _layers.DepthwiseConv2D,
    _layers.Dense,
    lq.layers.QuantConv2D,
    lq.layers.QuantDepthwiseConv2D,
    lq.layers.QuantDense,
)
