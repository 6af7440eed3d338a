"""Callbacks that schedule weights of quantizers, or log metrics, once per epoch."""

from ._clipping import GradientClippingMonitor
from ._memory import MemoryMonitor
from ._power import PowerScheduler
from ._progressive import ProgressiveBinarization
from ._tau import TauScheduler
from ._throughput import ThroughputMonitor
from ._weights import BinaryWeightMonitor

__all__ = [
    "BinaryWeightMonitor",
    "GradientClippingMonitor",
    "MemoryMonitor",
    "PowerScheduler",
    "ProgressiveBinarization",
    "TauScheduler",
    "ThroughputMonitor",
]
