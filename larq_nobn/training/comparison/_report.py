"""Runs side by side: statistics over seeds, as JSON, a table and a picture."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ..._checks import check_path
from ..._tables import as_text
from ..folder import write_json
from ..settings import named
from ._groups import Group, differing, grouped
from ._outcomes import Outcome, finite
from ._picture import draw_comparison
from ._table import comparison_table

_log = logging.getLogger("larq_nobn")


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, those that differ only in the seed taken together.

    Arguments:
        outcomes: The runs, in the order in which words are to appear.
        by: Names of the settings to compare by; among groups that differ in other
            settings, such as the learning rate, table and picture show the one with the
            highest mean accuracy. It was chosen on the test images, so it flatters
            every side alike. Data sets are always told apart. None: by all that differ.

    Raises:
        ValueError: If there are no runs, or a name in `by` is no setting, or comes
            twice.

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
        if not self.outcomes:
            raise ValueError("There is nothing to compare. Give one run or more.")
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
        found = differing(self.outcomes)
        if self.by is None:
            return found
        apart = [n for n in found if n == "dataset" and n not in self.by]
        return [*self.by, *apart]

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
        return comparison_table(self._title(), self.compared, groups)

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
    for folder in folders:
        check_path("a folder", folder)
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
    outcomes = [Outcome.read(each) for each in runs]
    _warn_of_repetition(outcomes)
    return Comparison(outcomes, by)


def _warn_of_repetition(outcomes: Sequence[Outcome]) -> None:
    """Says so where a spread would be smaller than that over seeds."""
    first: dict[str, str] = {}
    for each in outcomes:
        said = {n: value for n, value in each.settings.items() if n != "data_dir"}
        twin = first.setdefault(json.dumps(said, sort_keys=True), each.folder)
        if twin != each.folder:
            _log.warning(
                "%s and %s have the same settings and the same seed, so their spread "
                "is not one over seeds. Leave one out.",
                twin,
                each.folder,
            )
