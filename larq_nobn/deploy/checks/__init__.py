"""What LCE cannot convert, or would convert wrongly, said before it is tried."""

from ._hazards import check_file
from ._limits import check_limits
from ._traced import check_float32, check_trace, merged_convolutions
from ._without_kernel import NoKernel, layers_without_kernel, without_kernel

__all__ = [
    "NoKernel",
    "check_file",
    "check_float32",
    "check_limits",
    "check_trace",
    "layers_without_kernel",
    "merged_convolutions",
    "without_kernel",
]
