"""Pictures without a window and without global state."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def new_figure(target: Path, size: tuple[float, float]) -> Any:
    """Returns an empty matplotlib figure of so many inches, for the file `target`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # no pyplot: no global state, no window
    except ImportError as error:
        raise ImportError(
            f"{target.name} is left out because matplotlib is not installed; "
            "pip install 'larq_nobn[plots]' brings it."
        ) from error
    return Figure(figsize=size, layout="constrained")
