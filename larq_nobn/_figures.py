"""Plots without a window and without global state."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from ._errors import InvalidValue, needing

# Color-blind readers can distinguish these colors (Okabe and Ito). Their yellow is left
# out, since it is hard to see on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# At this resolution, letters are readable at half their size.
DPI = 180


def new_figure(target: Path, size: tuple[float, float]) -> Any:
    """Returns an empty matplotlib figure for the file `target`; the size is inches."""
    with needing(f"{target.name} needs matplotlib", "plots"):
        from matplotlib.figure import Figure  # no pyplot: no global state, no window
    return Figure(figsize=size, layout="constrained")


def check_plot(path: str | os.PathLike) -> Path:
    """Returns `path` if it ends in .png."""
    target = Path(path)
    if target.suffix != ".png":
        raise InvalidValue(
            f"{target} is not a name for a plot. Choose a name that ends in "
            ".png, such as plot.png."
        )
    return target


@cache
def font_of(size: int) -> Any:
    """Returns matplotlib's font, which has letters of many languages, or Pillow's."""
    from PIL import ImageFont

    try:
        from matplotlib import get_data_path
    except ImportError:
        return ImageFont.load_default(size)
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def legible(text: str) -> str:
    """Returns a user's text, with the code of each character that the font lacks."""
    mask = font_of(12).getmask
    box, text = bytes(mask("\uffff")), text.encode(errors="replace").decode()
    return "".join(x if bytes(mask(x)) != box else f"U+{ord(x):04X} " for x in text)


def drawable(text: str) -> str:
    """Returns a user's text for a plot, without formulas and missing characters."""
    return legible(text).replace("$", r"\$")


def shortened(name: str, characters: int) -> str:
    """Returns a name for a plot, cut to a number of characters."""
    return drawable(name if len(name) <= characters else f"{name[: characters - 1]}…")
