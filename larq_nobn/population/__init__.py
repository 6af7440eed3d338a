"""Statistics of what layers meet in the whole of some data, depth by depth."""

from ._batch_norms import EXAMPLES, BatchNormStatistics, averages_of, has_batch_norm
from ._population import Moments, Population, moments_of, pooled

__all__ = [
    "EXAMPLES",
    "BatchNormStatistics",
    "Moments",
    "Population",
    "averages_of",
    "has_batch_norm",
    "moments_of",
    "pooled",
]
