"""The picture of runs side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._figures import COLOURS, DPI, new_figure
from ..._files import replacing
from ..settings import named, shown
from ._groups import Group

# For the lines after the last colour, which begin with the first one again.
LOOKS = (("-", "."), ("--", "s"), (":", "^"), ("-.", "D"))
_PANELS_PER_ROW = 3
_PANEL = "batch_size"
# Inches: beside a legend, of a title, and of a legend in a single column.
_MARGIN, _TITLE, _HIGH = 0.2, 0.4, 6.0


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
            **_look(place // len(COLOURS)),
        }
        for place, label in enumerate(dict.fromkeys(labels))
    }


def _look(turn: int) -> dict[str, str]:
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
