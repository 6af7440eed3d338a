"""A training run itself, from its settings to its folder."""

from ._diagnosis import NonFiniteLoss
from ._images import watched_split
from ._stopping import Terminated, stoppable
from ._train import train

__all__ = [
    "NonFiniteLoss",
    "Terminated",
    "stoppable",
    "train",
    "watched_split",
]
