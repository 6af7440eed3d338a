"""What is inside a `.tflite` file, and what could be saved."""

from ._audit import Audit, audit, audit_graphs
from ._chain import Chain
from ._difference import Difference, diff
from ._findings import Findings
from ._stayed_float import stayed_float
from ._work import Layers, writes_bits

__all__ = [
    "Audit",
    "Chain",
    "Difference",
    "Findings",
    "Layers",
    "audit",
    "audit_graphs",
    "diff",
    "stayed_float",
    "writes_bits",
]
