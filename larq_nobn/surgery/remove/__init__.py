"""Rewrites a model with batch norm in the BN-free form."""

from ._remove import remove_batch_norm

__all__ = ["remove_batch_norm"]
