"""Reports how surgery replaced each layer."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from ..deploy._shown import Shown


@dataclass(frozen=True)
class Change:
    """How one layer of the given model was replaced.

    Arguments:
        layer: The name of the layer.
        kind: The name of its class.
        action: What was done, as a short phrase with other layers in quotes.
        reason: Why nothing better was done; '' if there is nothing to say.
    """

    layer: str
    kind: str
    action: str
    reason: str = ""


@dataclass(frozen=True)
class SurgeryReport(Shown):
    """How surgery changed a model, layer by layer, in the order of the graph.

    Arguments:
        model: The name of the model.
        changes: One `Change` for every layer that was removed or changed.
    """

    model: str
    changes: list[Change]

    def table(self) -> Table:
        """Returns a `rich` table with one row per changed layer."""
        table = Table(title=self.model, title_justify="left")
        for title in ("Layer", "Was", "Now"):
            table.add_column(title, overflow="fold")
        for change in self.changes:
            because = f", because {change.reason}" if change.reason else ""
            table.add_row(change.layer, change.kind, change.action + because)
        return table


@dataclass(frozen=True)
class FrozenLayer(Change):
    """How one layer with statistics of its examples was replaced.

    Arguments:
        layer, kind, action, reason: As in `Change`.
        distance: The root mean square of the change in the normalized values, by using
            constants instead of the examples' own statistics, in standard deviations of
            these values.
    """

    distance: float = 0.0
