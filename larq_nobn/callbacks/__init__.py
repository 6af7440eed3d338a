"""What moves or watches a binary network from epoch to epoch."""

from ._clipping import GradientClippingMonitor
from ._tau import TauScheduler
from ._weights import BinaryWeightMonitor

__all__ = ["BinaryWeightMonitor", "GradientClippingMonitor", "TauScheduler"]
