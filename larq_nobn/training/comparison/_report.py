"""Runs side by side: statistics over seeds, as JSON, a table and a plot."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from ..._checks import check_kind, check_list, check_path
from ..._figures import COLOURS, DPI, new_figure
from ..._files import replacing
from ..._tables import as_text
from ..folder import write_json
from ..settings import named, shown, words
from ._groups import TEST_ACCURACY, Group, Outcome, differing, finite, grouped

_log = logging.getLogger("larq_nobn")
_IN_TITLE = ("model", "dataset", "width", "epochs", "limit")
_RESULTS = ("test accuracy (%)", "best epoch", "seconds per epoch")
# For the lines after the last colour, which begin with the first one again.
LOOKS = (("-", "."), ("--", "s"), (":", "^"), ("-.", "D"))
_PANELS_PER_ROW = 3
_PANEL = "batch_size"
# Inches: beside a legend, of a title, and of a legend in a single column.
_MARGIN, _TITLE, _HIGH = 0.2, 0.4, 6.0


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, those that differ only in the seed taken together.

    Arguments:
        outcomes: The runs, in the order in which words are to appear.
        by: Names of the settings to compare by; among groups that differ in other
            settings, such as the learning rate, table and plot show the one with the
            highest mean accuracy, on the validation split if there is one. Data sets
            are always told apart. None: by all that differ.

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
        for each in check_list("outcomes", self.outcomes):
            check_kind("an outcome", each, Outcome, "a run. Make it with report")
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
        names = [n for n in _IN_TITLE if shared.get(n) is not None]
        return ", ".join(named(name, shared[name]) for name in names)


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
    named = [check_path("a folder", each) for each in check_list("folders", folders)]
    unique = {Path(folder).resolve(): folder for folder in named}
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
        equal = first.setdefault(json.dumps(said, sort_keys=True), each.folder)
        if equal != each.folder:
            _log.warning(
                "%s and %s have the same settings and the same seed, so their spread "
                "is not one over seeds. Leave one out.",
                equal,
                each.folder,
            )


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


def draw_comparison(
    target: Path, title: str, compared: Sequence[str], groups: Sequence[Group]
) -> None:
    """Writes the picture; `Comparison.draw` says what it shows and raises."""
    if target.suffix != ".png":
        raise ValueError(
            f"{target} is no name for a picture. Choose one that ends in .png."
        )
    if not groups:
        raise ValueError("No run has a result to draw. See why they failed.")
    figure = new_figure(target, (3, 2.8))
    draw_groups(figure, title, compared, groups)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=DPI)


def draw_groups(
    figure: Any, title: str, compared: Sequence[str], groups: Sequence[Group]
) -> None:
    """Fills a figure: a panel per batch size, a line and a band per group."""
    panels = _split(groups) if _PANEL in compared else {"": list(groups)}
    splits = {each.history_split for group in groups for each in group.finished}
    split = "validation" if splits == {"validation"} else "test"
    lines = [name for name in compared if name != _PANEL]
    labels = {id(group): _label(group, lines) for group in groups}
    styles = _styles(list(labels.values()))
    columns = min(len(panels), _PANELS_PER_ROW)
    rows = -(-len(panels) // columns)
    figure.set_size_inches(0.5 + 2.6 * columns, 0.5 + 2.4 * rows)
    figure.suptitle(title)
    places = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in places.flat[len(panels) :]:
        axes.set_visible(False)
    drawn: dict[str, Any] = {}
    for axes, (heading, members) in zip(places.flat, panels.items(), strict=False):
        axes.set_title(heading)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{split} accuracy, %")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
        for group in members:
            label = labels[id(group)]
            drawn.setdefault(label, _draw(axes, group, styles[label]))
    _add_legend(figure, drawn)


def _draw(axes: Any, group: Group, style: dict[str, str]) -> Any:
    """Draws the mean line over a band from lowest to highest; returns the line."""
    curve = group.curve()
    epochs = [row["epoch"] for row in curve]
    low, mean, high = (
        [100 * row[name] for row in curve] for name in ("min", "mean", "max")
    )
    axes.fill_between(epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)
    return axes.plot(epochs, mean, markersize=4, **style)[0]


def _split(groups: Sequence[Group]) -> dict[str, list[Group]]:
    panels: dict[str, list[Group]] = {}
    for group in groups:
        heading = named(_PANEL, group.settings[_PANEL])
        panels.setdefault(heading, []).append(group)
    return panels


def _label(group: Group, names: Sequence[str]) -> str:
    parts = [named(name, group.settings[name]) for name in names]
    return "\n".join(parts) or shown(group.outcomes[0].settings["normalization"])


def _styles(labels: Sequence[str]) -> dict[str, dict[str, str]]:
    """The same colour and dashes for the same label in every panel."""
    return {
        label: {
            "color": COLOURS[place % len(COLOURS)],
            **_line_style(place // len(COLOURS)),
        }
        for place, label in enumerate(dict.fromkeys(labels))
    }


def _line_style(turn: int) -> dict[str, str]:
    dashes, marker = LOOKS[turn % len(LOOKS)]
    return {"linestyle": dashes, "marker": marker}


def _add_legend(figure: Any, lines: Mapping[str, Any]) -> None:
    """Puts a legend to the right of the panels, and makes the figure large enough."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()

    def drawn(columns: int) -> tuple[Any, float, float]:
        legend = figure.legend(
            lines.values(), lines.keys(), loc="outside right center", ncols=columns
        )
        taken = legend.get_window_extent(renderer)
        return legend, taken.width / figure.dpi, taken.height / figure.dpi

    width, height = figure.get_size_inches()
    legend, wide, high = drawn(1)
    columns = math.ceil(high / max(height, _HIGH))
    if columns > 1:
        legend.remove()
        legend, wide, high = drawn(columns)
    # A title is above, and as much is left below.
    figure.set_size_inches(width + wide + _MARGIN, max(height, high + 2 * _TITLE))
