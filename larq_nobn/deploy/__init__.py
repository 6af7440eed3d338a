"""From a trained model to a verified `.tflite` file, and what is inside such a file."""

from ._audit import Audit, audit
from ._convert import convert
from ._errors import ConversionError, VerificationError
from ._graph import count_binary_layers
from ._report import ConversionReport

__all__ = [
    "Audit",
    "ConversionError",
    "ConversionReport",
    "VerificationError",
    "audit",
    "convert",
    "count_binary_layers",
]
