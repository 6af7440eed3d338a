"""The picture of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..._figures import new_figure
from ..._files import replacing

_log = logging.getLogger("larq_nobn")


def draw_curves(
    target: Path, title: str, history: Sequence[Mapping[str, float]]
) -> None:
    """Draws loss and accuracy over the epochs, or says why there is no picture."""
    try:
        figure = new_figure(target, (9, 3.5))
    except ImportError as error:
        _log.warning("%s", error)
        return
    epochs = [row["epoch"] for row in history]
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "test")):
            axes.plot(epochs, [row[key] for row in history], marker=".", label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=120)
