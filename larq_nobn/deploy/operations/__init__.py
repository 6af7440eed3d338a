"""A model as operations, lowered from its trace, and local rules that merge them."""

from ._lowered import LoweredTrace

__all__ = ["LoweredTrace"]
