"""Statistics of batch norm and of single examples: taken again, or frozen."""

from ._freeze import freeze_statistics
from ._reestimate import reestimate_batch_norm

__all__ = [
    "freeze_statistics",
    "reestimate_batch_norm",
]
