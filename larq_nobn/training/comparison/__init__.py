"""Training runs side by side: grids, tables, curves."""

from ._compare import compare, grid
from ._report import Comparison, Outcome, report

__all__ = [
    "Comparison",
    "Outcome",
    "compare",
    "grid",
    "report",
]
