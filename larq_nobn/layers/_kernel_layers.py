from __future__ import annotations

from typing import Any

from .._keras import keras

_layers = keras.layers
# Base classes of Larq's layers too.
_WITH_KERNEL = (_layers.Dense, _layers.Conv1D, _layers.Conv2D, _layers.Conv3D)
# Subclasses of convolutions whose kernels are (..., out, in).
_TRANSPOSED = (
    _layers.Conv1DTranspose,
    _layers.Conv2DTranspose,
    _layers.Conv3DTranspose,
)


def has_kernel(layer: Any) -> bool:
    """Tells whether a layer multiplies by a kernel of shape (..., in, out)."""
    return isinstance(layer, _WITH_KERNEL) and not isinstance(layer, _TRANSPOSED)
