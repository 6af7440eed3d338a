"""Whether two forms of a network compute the same."""

from ._agreement import agreement, top1_agreement
from ._data import given_batches, verification_examples
from ._ties import tie_warnings
from ._traced import verify_trace, verify_traced_file
from ._verify import GIVEN, verify_file, verify_prepared

__all__ = [
    "GIVEN",
    "agreement",
    "given_batches",
    "tie_warnings",
    "top1_agreement",
    "verification_examples",
    "verify_file",
    "verify_prepared",
    "verify_trace",
    "verify_traced_file",
]
