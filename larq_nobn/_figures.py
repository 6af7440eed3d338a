"""Plots without a window and without global state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ._errors import InvalidValue, needing

# Distinguished by colour-blind readers too (Okabe and Ito), without the yellow that is
# hard to see on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Small figures of many dots per inch: letters stay readable at half their size.
DPI = 180


def new_figure(target: Path, size: tuple[float, float]) -> Any:
    """Returns an empty matplotlib figure of so many inches, for the file `target`."""
    with needing(f"{target.name} needs matplotlib", "plots"):
        from matplotlib.figure import Figure  # no pyplot: no global state, no window
    return Figure(figsize=size, layout="constrained")


def check_plot(path: str | os.PathLike) -> Path:
    """Returns `path` if it is the name of a plot."""
    target = Path(path)
    if target.suffix != ".png":
        raise InvalidValue(
            f"{target} is not a name for a plot. Choose one that ends in "
            ".png, such as plot.png."
        )
    return target


def drawable(text: str) -> str:
    """A text of a user as it is drawn: no formula, and no bytes that are not text."""
    return text.encode(errors="replace").decode().replace("$", r"\$")


def shortened(name: str, characters: int) -> str:
    """The start of a name that has no room for all of it, as it is drawn."""
    return drawable(name if len(name) <= characters else f"{name[: characters - 1]}…")
