"""What counts as a batch norm."""

from __future__ import annotations

from .._keras import keras
from ..layers import BatchKalmanNormalization

_KINDS = (
    keras.layers.BatchNormalization,
    keras.layers.experimental.SyncBatchNormalization,
    BatchKalmanNormalization,
)


def is_batch_norm(layer: keras.layers.Layer) -> bool:
    """Tells whether a layer normalizes with statistics of the batch."""
    return isinstance(layer, _KINDS)
