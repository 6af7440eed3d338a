"""A training run itself, from its settings to its folder."""

from ._diagnosis import NonFiniteLoss
from ._images import watched_split
from ._stopping import Terminated, stoppable
from ._strategy import STRATEGIES
from ._train import train

__all__ = [
    "STRATEGIES",
    "NonFiniteLoss",
    "Terminated",
    "stoppable",
    "train",
    "watched_split",
]
