"""The table of runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.table import Table

from ..settings import shown, words
from ._groups import Group
from ._outcomes import TEST_ACCURACY

_RESULTS = ("test accuracy (%)", "best epoch", "seconds per epoch")


def comparison_table(
    title: str, compared: Sequence[str], groups: Sequence[Group]
) -> Table:
    """Returns a row per group: its settings, how many runs, and what they reached."""
    names = list(groups[0].settings)
    table = Table(title=title, title_justify="left")
    for name in names:
        heading = words(name) if name in compared else f"best {words(name)}"
        values = [group.settings[name] for group in groups]
        numbers = all(isinstance(value, int | float) for value in values)
        side: Literal["left", "right"] = "right" if numbers else "left"
        table.add_column(_narrow(heading), justify=side, overflow="fold")
    failures = any(len(g.finished) < len(g.outcomes) for g in groups)
    for heading in ["runs", *["failed"] * failures, *_RESULTS]:
        # Where room is short it is the settings that go on in a second line.
        table.add_column(_narrow(heading), justify="right", no_wrap=True)
    for group in groups:
        count = len(group.finished)
        counts = [str(count), *[str(len(group.outcomes) - count)] * failures]
        said = [shown(group.settings[name]) for name in names]
        table.add_row(*said, *counts, *_results(group))
    if len(names) > len(compared):
        split = {each.history_split for g in groups for each in g.finished}
        where = "validation split" if split == {"validation"} else "test images"
        table.caption = f"Best: of the highest mean, chosen on the {where}."
        table.caption_justify = "left"
    return table


def _narrow(heading: str) -> str:
    return heading.replace(" ", "\n")


def _results(group: Group) -> list[str]:
    last, best, seconds = (
        group.spread(TEST_ACCURACY),
        group.best_epoch(),
        group.seconds(),
    )
    if last is None or best is None or seconds is None:
        return ["-"] * len(_RESULTS)
    mean, low, high = (f"{100 * last[name]:.1f}" for name in ("mean", "min", "max"))
    extent = f" ({low} to {high})" if len(group.finished) > 1 else ""
    return [
        f"{mean}{extent}",
        f"{best['epoch']} ({100 * best['mean']:.1f})",
        f"{seconds:.1f}",
    ]
