"""The table of runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ._groups import Group
from ._outcomes import ACCURACY
from ._words import shown, words

_RESULTS = ("test accuracy, %", "best epoch", "seconds per epoch")


def comparison_table(
    title: str, compared: Sequence[str], groups: Sequence[Group]
) -> Table:
    """Returns a row per group: its settings, how many runs, and what they reached."""
    names = list(groups[0].settings)
    table = Table(title=title, title_justify="left")
    for name in names:
        heading = words(name) if name in compared else f"best {words(name)}"
        _add_column(table, heading, [group.settings[name] for group in groups])
    failures = any(len(g.finished) < len(g.outcomes) for g in groups)
    for heading in ["runs", *["failed"] * failures, *_RESULTS]:
        _add_column(table, heading, [0])
    for group in groups:
        count = len(group.finished)
        counts = [str(count), *[str(len(group.outcomes) - count)] * failures]
        values = [shown(group.settings[name]) for name in names]
        table.add_row(*values, *counts, *_results(group))
    if len(names) > len(compared):
        table.caption = "Best: of the highest mean, chosen on the test images."
        table.caption_justify = "left"
    return table


def _add_column(table: Table, heading: str, values: Sequence[Any]) -> None:
    """Numbers stand to the right and words to the left; dictionaries may wrap."""
    numbers = all(isinstance(value, int | float) for value in values)
    table.add_column(
        heading.replace(" ", "\n"),
        justify="right" if numbers else "left",
        no_wrap=not any(isinstance(value, dict) for value in values),
    )


def _results(group: Group) -> list[str]:
    last, best, seconds = group.spread(ACCURACY), group.best_epoch(), group.seconds()
    if last is None or best is None or seconds is None:
        return ["-"] * len(_RESULTS)
    mean, low, high = (f"{100 * last[name]:.1f}" for name in ("mean", "min", "max"))
    extent = f" ({low} to {high})" if len(group.finished) > 1 else ""
    return [
        f"{mean}{extent}",
        f"{best['epoch']} ({100 * best['mean']:.1f})",
        f"{seconds:.1f}",
    ]
