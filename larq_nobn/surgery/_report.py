"""What surgery did to each layer."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from ..deploy._shown import Shown


@dataclass(frozen=True)
class Change:
    """How one layer of the given model was replaced.

    Arguments:
        layer: Its name.
        kind: The name of its class.
        action: What was done, as a short phrase that names other layers in quotes.
        reason: Why not something better was done; empty if there is nothing to say.
    """

    layer: str
    kind: str
    action: str
    reason: str = ""


@dataclass(frozen=True)
class SurgeryReport(Shown):
    """What surgery did to a model, layer by layer, in the order of the graph.

    Arguments:
        model: Name of the model.
        changes: One `Change` for every layer that is gone or no longer the same.
    """

    model: str
    changes: list[Change]

    def table(self) -> Table:
        """Returns a rich table of one row per changed layer."""
        table = Table(title=self.model, title_justify="left")
        for title in ("Layer", "Was", "Now"):
            table.add_column(title, overflow="fold")
        for change in self.changes:
            because = f", because {change.reason}" if change.reason else ""
            table.add_row(change.layer, change.kind, change.action + because)
        return table


@dataclass(frozen=True)
class FrozenLayer(Change):
    """How one layer of dynamic statistics was replaced.

    Arguments:
        layer, kind, action, reason: As in `Change`.
        distance: How far constants are from the examples' own statistics: the root
            mean square of what changes in the normalized values, in their standard
            deviations.
    """

    distance: float = 0.0
