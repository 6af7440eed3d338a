"""Gains and offsets per channel, on their way into the layers around them."""

from ._gains import drop_gains
from ._merge import merge_affines, merge_into_convolutions
from ._numbers import affine_numbers, plain_affine
from ._relus import shift_rectifiers
from ._scales import clear_thresholds, drop_scales

__all__ = [
    "affine_numbers",
    "clear_thresholds",
    "drop_gains",
    "drop_scales",
    "merge_affines",
    "merge_into_convolutions",
    "plain_affine",
    "shift_rectifiers",
]
