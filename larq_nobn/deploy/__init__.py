"""From a trained model to a verified `.tflite` file, and what is inside such a file."""

from ._audit import Audit, audit
from ._convert import convert
from ._errors import ConversionError, VerificationError
from ._flatbuffer import Runner
from ._graph import binary_layers
from ._report import ConversionReport

__all__ = [
    "Audit",
    "ConversionError",
    "ConversionReport",
    "Runner",
    "VerificationError",
    "audit",
    "binary_layers",
    "convert",
]
