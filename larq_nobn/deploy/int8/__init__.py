"""The route to files that compute in int8 what is not binary."""

from ._fake_quantize import fake_quantize
from ._model import check_int8, round_kernels
from ._verify import verify_int8, verify_without_rounding

__all__ = [
    "check_int8",
    "fake_quantize",
    "round_kernels",
    "verify_int8",
    "verify_without_rounding",
]
