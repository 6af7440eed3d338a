"""Whether two forms of a network compute the same."""

from ._agreement import agreement
from ._data import verification_examples
from ._verify import verify_file, verify_prepared

__all__ = [
    "agreement",
    "verification_examples",
    "verify_file",
    "verify_prepared",
]
