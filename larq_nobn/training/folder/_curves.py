"""The picture of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..._figures import COLOURS, DPI, new_figure
from ..._files import replacing

_log = logging.getLogger("larq_nobn")


def draw_curves(
    target: Path, title: str, history: Sequence[Mapping[str, float]], split: str
) -> None:
    """Draws loss and accuracy over the epochs, or says why there is no picture."""
    try:
        figure = new_figure(target, (6, 2.7))
    except ImportError as error:
        _log.warning("%s", error)
        return
    epochs = [row["epoch"] for row in history]
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        lines = (("training", name, "--"), (split, f"val_{name}", "-"))
        for colour, (label, key, dashes) in zip(COLOURS[1::-1], lines, strict=True):
            values = [row[key] for row in history]
            axes.plot(epochs, values, dashes, color=colour, marker=".", label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=DPI)
