"""Draws the operations of a file as a chain, with their share of the work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..._files import replacing
from .._errors import ConversionError
from ._operation_tables import LONG, by_layer, shown_output

# Told apart by colour-blind readers too (Okabe and Ito); letters on them are black.
COLOURS = {
    "binary": "#56B4E9",
    "float": "#E69F00",
    "int8": "#009E73",
    "shape": "#D9D9D9",
    "mixed": "#CC79A7",
}
_ROW = 0.21  # inches
_HALF = 0.375  # of the height of a bar, in rows


def empty_figure(width: float, height: float) -> Any:
    """Returns an empty figure.

    Raises:
        ConversionError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConversionError(
            "matplotlib is not installed, and pictures need it. "
            "Install it with: pip install 'larq-nobn[plots]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def draw(operations: Sequence[dict[str, Any]], title: str, path: Any) -> None:
    """Draws one row per operation, or per layer where there are many."""
    rows = by_layer(operations) if len(operations) > LONG else list(operations)
    figure = empty_figure(13, 1.3 + _ROW * len(rows))
    figure.suptitle(title, fontsize=12)
    chain, work, memory = figure.subplots(1, 3, sharey=True, width_ratios=(5, 2, 2))
    _chain(chain, rows)
    _shares(work, rows, ("binary_macs", "float_macs", "int8_macs"), "MACs, %")
    _shares(memory, rows, ("weight_bytes", "activation_bytes"), "bytes, %")
    chain.set_ylim(len(rows) - 0.4, -0.6)
    save_figure(figure, path)


def save_figure(figure: Any, path: str | os.PathLike) -> None:
    """Writes a figure as a PNG file."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _chain(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    place_of: dict[int, int] = {}
    for place, row in enumerate(rows):
        place_of.update((index, place) for index in row.get("joined", [row["index"]]))
    for place, row in enumerate(rows):
        for source in {place_of[index] for index in row["reads"]} - {place}:
            _line(axes, source, place)
    for place, row in enumerate(rows):
        axes.barh(place, 1, height=2 * _HALF, color=COLOURS[row["kind"]])
        label = row["op"] if len(row["op"]) <= 36 else f"{row['op'][:34]}…"
        axes.text(0.5, place, label, ha="center", va="center", fontsize=9)
        axes.text(1.03, place, row["layer"], va="center", fontsize=9)
        axes.text(2.2, place, shown_output(row), ha="right", va="center", fontsize=9)
    axes.set_xlim(-0.26, 2.2)
    axes.set_axis_off()
    kinds = [kind for kind in COLOURS if any(row["kind"] == kind for row in rows)]
    handles = [axes.barh(0, 0, color=COLOURS[kind]) for kind in kinds]
    axes.legend(
        handles, kinds, ncols=len(kinds), fontsize=10, frameon=False, loc="lower left",
        bbox_to_anchor=(0, 1),
    )  # fmt: skip


def _line(axes: Any, source: int, target: int) -> None:
    xs, ys = [0.5, 0.5], [source + _HALF, target - _HALF]
    if target > source + 1:
        # What skips operations goes round them, the wider the more it skips.
        side = -0.05 - 0.2 * (1 - 2 / (target - source))
        xs, ys = [0, side, side, 0], [source, source, target, target]
    axes.plot(xs, ys, color="dimgray", linewidth=1)


def _shares(
    axes: Any, rows: Sequence[dict[str, Any]], keys: Sequence[str], title: str
) -> None:
    sizes = [sum(row[key] for key in keys) for row in rows]
    whole = sum(sizes) or 1
    colours = [COLOURS[row["kind"]] for row in rows]
    shares = [100 * size / whole for size in sizes]
    bars = axes.barh(range(len(rows)), shares, height=2 * _HALF, color=colours)
    labels = [f"{share:.1f}" if share >= 0.05 else "" for share in shares]
    axes.bar_label(bars, labels, padding=2, fontsize=9)
    axes.set_title(title, fontsize=11)
    axes.margins(x=0.2)
    axes.tick_params(left=False, labelsize=9)
    axes.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
