"""The inference form of a model, with as few float operations as possible."""

from ...layers._inference import BinaryConvolution, PlainAffine, ShiftedSign
from ._binary_layers import rewritten
from ._prepare import half_precision, in_float32, prepare

__all__ = [
    "BinaryConvolution",
    "PlainAffine",
    "ShiftedSign",
    "half_precision",
    "in_float32",
    "prepare",
    "rewritten",
]
