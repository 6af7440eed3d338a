"""From a trained model to a verified `.tflite` file, and what is inside such a file."""

from ._audit import Audit, audit
from ._card import Card, TensorInfo
from ._card_file import read_card
from ._convert import convert
from ._errors import ConversionError, VerificationError
from ._flatbuffer import Runner
from ._graph import binary_layers
from ._preprocessing import Preprocessing
from ._report import ConversionReport

__all__ = [
    "Audit",
    "Card",
    "ConversionError",
    "ConversionReport",
    "Preprocessing",
    "Runner",
    "TensorInfo",
    "VerificationError",
    "audit",
    "binary_layers",
    "convert",
    "read_card",
]
