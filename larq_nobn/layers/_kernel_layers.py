from __future__ import annotations

from typing import Any

from .._keras import keras

_layers = keras.layers
# Larq's layers derive from these.
_WITH_KERNEL = (_layers.Dense, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D)
# To Python these are convolutions too; their kernels are (..., out, in).
_TRANSPOSED = (
    _layers.Conv1DTranspose,
    _layers.Conv2DTranspose,
    _layers.Conv3DTranspose,
)


def has_kernel(layer: Any) -> bool:
    """Tells whether a layer multiplies by a kernel of shape (..., in, out)."""
    return isinstance(layer, _WITH_KERNEL) and not isinstance(layer, _TRANSPOSED)
