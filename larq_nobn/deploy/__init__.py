"""Converts trained models to verified `.tflite` or C files, and inspects such files."""

from ._audit import Audit, audit, diff
from ._binary_layers import binary_layers
from ._convert import ConversionReport, convert
from ._errors import ConversionError, VerificationError
from ._formats import Format, FormatComparison, compare_formats
from ._packed import PackedKernel, packed_kernels
from ._prepared import prepared
from .device import Card, Preprocessing, read_card
from .device._benchmark import Benchmark, Timing, benchmark, benchmark_on_phone
from .int8._fake_quantize import fake_quantize
from .lite._converter import Runner, TensorInfo

__all__ = [
    "Audit",
    "Benchmark",
    "Card",
    "ConversionError",
    "ConversionReport",
    "Format",
    "FormatComparison",
    "PackedKernel",
    "Preprocessing",
    "Runner",
    "TensorInfo",
    "Timing",
    "VerificationError",
    "audit",
    "benchmark",
    "benchmark_on_phone",
    "binary_layers",
    "compare_formats",
    "convert",
    "diff",
    "fake_quantize",
    "packed_kernels",
    "prepared",
    "read_card",
]
