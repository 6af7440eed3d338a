"""Passes over all data with a model: batches, statistics of layers, and scores."""

from ._batch_norms import EXAMPLES, BatchNormStatistics, averages_of, has_batch_norm
from ._population import PooledMoments, Population, moments_of, pooled
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
