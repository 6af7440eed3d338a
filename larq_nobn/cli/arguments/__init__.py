"""How options are read from the command line, and shown by `--help`."""

from ._command import Command
from ._groups import Grouped
from ._outputs import (
    COMPARISON,
    KERAS,
    PACKED,
    PNG,
    REPORT,
    TFLITE,
    Output,
    check_target,
)
from ._types import Argument, Blocks, Several, Size

__all__ = [
    "COMPARISON",
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
    "Several",
    "Size",
    "check_target",
]
