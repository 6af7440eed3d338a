"""What LCE cannot convert, or would convert wrongly, said before it is tried."""

from ._hazards import check_file
from ._limits import check_limits

__all__ = [
    "check_file",
    "check_limits",
]
