"""The route to files that compute in int8 what is not binary."""

from ._conversion import (
    check_int8,
    verify_int8,
    verify_without_rounding,
)
from ._fake_quantize import fake_quantize

__all__ = [
    "check_int8",
    "fake_quantize",
    "verify_int8",
    "verify_without_rounding",
]
