"""Positive factors on whole maps, absorbed by the layers around them."""

from ._absorb import absorb_factors
from ._rules import LARGEST

__all__ = [
    "LARGEST",
    "absorb_factors",
]
