"""Binary layers of several kinds as the binary convolutions that LCE knows."""

from ._binary_layers import binary_layer, rewritten
from ._layers import Channels, ConstantLess, PlusLast
from ._lift import lift_to_maps

__all__ = [
    "Channels",
    "ConstantLess",
    "PlusLast",
    "binary_layer",
    "lift_to_maps",
    "rewritten",
]
