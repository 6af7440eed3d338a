"""Binary neural networks in Keras without batch normalization."""

from . import _keras as _keras  # first of all: it selects legacy Keras
from . import layers, models, quantizers

__version__ = "0.1.0"

__all__ = ["layers", "models", "quantizers"]
