"""Folds batch norm into the layers around it."""

from ._fold import fold_batch_norm

__all__ = ["fold_batch_norm"]
