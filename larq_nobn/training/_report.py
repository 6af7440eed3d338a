"""Runs side by side: statistics over seeds, as JSON, a table and a picture."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from .._tables import as_text
from ._files import write_json
from ._groups import Group, differing, grouped
from ._outcomes import ACCURACY, Outcome, finite
from ._report_picture import draw_comparison
from ._words import named, shown, words

_log = logging.getLogger("larq_nobn")


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, those that differ only in the seed taken together.

    Arguments:
        outcomes: The runs, in the order in which words are to appear.
        by: Names of the settings to compare by; among groups that differ in other
            settings, such as the learning rate, table and picture show the one with the
            highest mean accuracy. It was chosen on the test images, so it flatters
            every side alike. None: by all that differ.

    Raises:
        ValueError: If a name in `by` is no setting, or comes twice.

    Example:
        ```python
        comparison = nobn.training.report(["runs/a-0", "runs/a-1", "runs/b-0"])
        print(comparison)
        comparison.draw("runs.png")
        ```
    """

    outcomes: Sequence[Outcome]
    by: Sequence[str] | None = None

    def __post_init__(self) -> None:
        known = self.outcomes[0].settings
        for name in self.compared:
            if name not in known or self.compared.count(name) > 1:
                raise ValueError(
                    f"by={','.join(self.compared)} has {name!r}, which is no setting, "
                    f"or comes twice. Choose from {', '.join(known)}."
                )

    @property
    def compared(self) -> list[str]:
        """Names of the settings that table and picture tell apart."""
        return differing(self.outcomes) if self.by is None else list(self.by)

    @property
    def groups(self) -> list[Group]:
        """All groups, numbers by size and words in the order of the runs."""
        return grouped(self.outcomes, self.compared)

    def to_dict(self) -> dict[str, Any]:
        """Returns all groups and runs as plain JSON types.

        A group has mean, smallest and largest value, and the standard deviation of a
        sample (None for a single run), of the metrics behind the last epoch and of the
        test accuracy of each epoch; `best` marks those that the table shows.
        """
        return finite(
            {
                "by": self.compared,
                "shared": self._shared(),
                "groups": [group.to_dict() for group in self.groups],
                "runs": [each.to_dict() for each in self.outcomes],
            }
        )

    def to_json(self, path: str | os.PathLike) -> None:
        """Writes `to_dict()` to a file, whole or not at all."""
        write_json(Path(path), self.to_dict())

    def draw(self, path: str | os.PathLike) -> None:
        """Draws test accuracy per epoch: mean lines, with bands from lowest to highest.

        There is a panel for each batch size if that is among the compared settings.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If the name does not end in .png, or no run has a result.
            OSError: If the file cannot be written; an earlier one is then left as it
                was.
        """
        groups = [group for group in self.groups if group.best and group.finished]
        draw_comparison(Path(path), self._title(), self.compared, groups)

    def table(self) -> Table:
        """Returns a `rich` table with a row for each group that is best."""
        groups = [group for group in self.groups if group.best]
        names = list(groups[0].settings)
        table = Table(title=self._title(), title_justify="left")
        for name in names:
            best = "" if name in self.compared else "best "
            table.add_column(f"{best}{words(name)}", justify=_side(groups, name))
        failures = any(len(g.finished) < len(g.outcomes) for g in groups)
        for heading in ["runs", *["failed"] * failures, *_RESULTS]:
            table.add_column(heading, justify="right")
        for group in groups:
            count = len(group.finished)
            counts = [str(count), *[str(len(group.outcomes) - count)] * failures]
            values = [shown(group.settings[name]) for name in names]
            table.add_row(*values, *counts, *_results(group))
        if len(names) > len(self.compared):
            table.caption = "Best: of the highest mean, chosen on the test images."
            table.caption_justify = "left"
        return table

    def __str__(self) -> str:
        return as_text(self.table())

    def _shared(self) -> dict[str, Any]:
        """The settings in which all runs agree."""
        settings = [each.settings for each in self.outcomes]
        return {
            name: value
            for name, value in settings[0].items()
            if all(name in each and each[name] == value for each in settings)
        }

    def _title(self) -> str:
        shared = self._shared()
        names = [n for n in _TITLE if shared.get(n) is not None]
        return ", ".join(named(name, shared[name]) for name in names)


_TITLE = ("model", "dataset", "width", "epochs", "limit")
_RESULTS = ("test accuracy, %", "best epoch", "seconds per epoch")


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


def _side(groups: Sequence[Group], name: str) -> Literal["left", "right"]:
    """Numbers stand to the right, words to the left."""
    values = [group.settings[name] for group in groups]
    return "right" if all(isinstance(v, int | float) for v in values) else "left"


def report(
    folders: Sequence[str | os.PathLike], by: Sequence[str] | None = None
) -> Comparison:
    """Compares finished runs; their models stay closed.

    Folders and files that are no finished run, as a pattern such as `runs/*` brings
    them along, are named in a warning and left out.

    Arguments:
        folders: Run folders; one that comes twice counts once.
        by: Names of the settings to compare by; None for all that differ.

    Returns:
        The comparison.

    Raises:
        FileNotFoundError: If one does not exist, or none is a finished run.
        ValueError: If a run is damaged, or a name in `by` is no setting.

    Example:
        ```python
        print(nobn.training.report(["runs/nobn-0", "runs/nobn-1"]))
        ```
    """
    unique = {Path(folder).resolve(): os.fspath(folder) for folder in folders}
    given = list(unique.values())
    missing = [each for each in given if not Path(each).exists()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} does not exist. Give run folders, such as runs/*."
        )
    runs = [each for each in given if Path(each, "run.json").exists()]
    if not runs:
        raise FileNotFoundError(
            f"{', '.join(given) or 'An empty list'} holds no finished run: there is no "
            "run.json. Give the folders of finished runs, such as runs/*."
        )
    if len(runs) < len(given):
        _log.warning(
            "Left out, because there is no run.json of a finished run: %s.",
            ", ".join(each for each in given if each not in runs),
        )
    return Comparison([Outcome.read(each) for each in runs], by)
