"""Computes statistics of layers, and scores, by passes of a model over all data."""

from ._population import (
    EXAMPLES,
    BatchNormStatistics,
    PooledMoments,
    Population,
    averages_of,
    has_batch_norm,
    moments_of,
    pooled,
)
from ._scores import Scores, as_probabilities

__all__ = [
    "EXAMPLES",
    "BatchNormStatistics",
    "PooledMoments",
    "Population",
    "Scores",
    "as_probabilities",
    "averages_of",
    "has_batch_norm",
    "moments_of",
    "pooled",
]
