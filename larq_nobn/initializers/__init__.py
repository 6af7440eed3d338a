"""Keras initializers: where the weights of an ordinary layer start."""

from ._symmetric_classes import SymmetricClasses

__all__ = ["SymmetricClasses"]
