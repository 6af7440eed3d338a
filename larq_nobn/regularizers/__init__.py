"""Keras regularizers for the latent kernels of binary layers."""

from ._binary_regularizer import BinaryRegularizer

__all__ = ["BinaryRegularizer"]
