"""How options are read from the command line, and shown by `--help`."""

from ._command import Command
from ._groups import Grouped
from ._outputs import (
    COMPARISON,
    EXPORT,
    KERAS,
    PACKED,
    PNG,
    REPORT,
    TFLITE,
    Output,
    OutputFolder,
    check_target,
    json_option,
)
from ._types import Argument, Blocks, Several, Size

__all__ = [
    "COMPARISON",
    "EXPORT",
    "KERAS",
    "PACKED",
    "PNG",
    "REPORT",
    "TFLITE",
    "Argument",
    "Blocks",
    "Command",
    "Grouped",
    "Output",
    "OutputFolder",
    "Several",
    "Size",
    "check_target",
    "json_option",
]
