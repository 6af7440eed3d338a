"""What freezing did to each layer, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from ._report import Change, SurgeryReport


@dataclass(frozen=True)
class FrozenLayer(Change):
    """What became of one layer of dynamic statistics.

    Arguments:
        layer, kind, action, reason: As in `Change`.
        distance: How far constants are from the examples' own statistics: the root
            mean square of what changes in the normalized values, in their standard
            deviations.
    """

    distance: float = 0.0


@dataclass(frozen=True)
class FreezeReport(SurgeryReport):
    """What freezing did to a model.

    Arguments:
        model: Name of the model.
        changes: One `FrozenLayer` for every layer of dynamic statistics.
        accuracy_before: Share of the given data that the given model classifies as it
            is labelled; None if the data has no classes.
        accuracy_after: The same of the new model.
    """

    accuracy_before: float | None = None
    accuracy_after: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings, lists and dicts, ready for JSON."""
        return {
            **super().to_dict(),
            "accuracy_before": self.accuracy_before,
            "accuracy_after": self.accuracy_after,
        }

    def table(self) -> Table:
        """A rich table of one row per layer, above the accuracy if that is known."""
        table = super().table()
        if self.accuracy_before is not None:
            table.caption = (
                f"accuracy {self.accuracy_before:.2%} before, "
                f"{self.accuracy_after:.2%} after"
            )
            table.caption_justify = "left"
        return table
