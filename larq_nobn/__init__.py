"""Binary neural networks in Keras without batch normalization."""

from . import _keras as _keras  # first of all: it selects legacy Keras
from . import data, layers, models, optimizers, quantizers, training
from .deploy import audit, convert

__version__ = "0.1.0"

__all__ = [
    "audit",
    "convert",
    "data",
    "layers",
    "models",
    "optimizers",
    "quantizers",
    "training",
]
