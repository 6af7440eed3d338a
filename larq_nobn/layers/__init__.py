"""Keras layers: normalizers and activations of feature maps."""

from ._frn import FilterResponseNormalization
from ._rprelu import RPReLU
from ._tlu import ThresholdedLinearUnit

__all__ = ["FilterResponseNormalization", "RPReLU", "ThresholdedLinearUnit"]
