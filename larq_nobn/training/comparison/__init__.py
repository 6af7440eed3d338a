"""Training runs side by side: grids, scores, tables, curves."""

from ._compare import compare, grid
from ._groups import Outcome
from ._report import Comparison, report
from ._scoring import evaluate, score

__all__ = [
    "Comparison",
    "Outcome",
    "compare",
    "evaluate",
    "grid",
    "report",
    "score",
]
