"""From a trained model to a verified `.tflite` file, and what is inside such a file."""

from ._audit import Audit, audit
from ._benchmark import benchmark
from ._card import Card
from ._card_file import read_card
from ._convert import convert
from ._difference import Difference, diff
from ._errors import ConversionError, VerificationError
from ._fake_quantize import fake_quantize
from ._graph import binary_layers
from ._phone import phone_commands, read_phone_logs
from ._preprocessing import Preprocessing
from ._report import ConversionReport
from ._runner import Runner
from ._tensor_info import TensorInfo
from ._timing import Benchmark, Timing

__all__ = [
    "Audit",
    "Benchmark",
    "Card",
    "ConversionError",
    "ConversionReport",
    "Difference",
    "Preprocessing",
    "Runner",
    "Timing",
    "TensorInfo",
    "VerificationError",
    "audit",
    "benchmark",
    "binary_layers",
    "convert",
    "diff",
    "phone_commands",
    "read_phone_logs",
    "fake_quantize",
    "read_card",
]
