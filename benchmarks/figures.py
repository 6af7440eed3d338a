"""Draws the figures of README and of the guides from files in results/.

Those of the guides are for light and dark pages. Each SVG of them in docs/images/ bears
the SHA-256 of the numbers it shows, by which a test finds those that are older than
their numbers. Nothing is measured, and TensorFlow is not needed.

    python benchmarks/figures.py             # or: make evidence
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from _drawing import promise
from _drawing.figures import FIGURES

ROOT = Path(__file__).resolve().parents[1]
PROMISE = ROOT / "docs" / "images" / "promise.svg"


def content(file):
    return json.loads((ROOT / "results" / file).read_text(encoding="utf-8"))


def numbers(files):
    """The SHA-256 of what a figure shows."""
    found = hashlib.sha256()
    for file in files:
        found.update((ROOT / "results" / file).read_bytes())
    return found.hexdigest()


def path(name, dark):
    return ROOT / "docs" / "images" / f"{name}{'-dark' if dark else ''}.svg"


def main():
    import matplotlib

    promise.draw(PROMISE, promise.found(*map(content, promise.FILES)))
    matplotlib.rcParams["svg.hashsalt"] = "larq_nobn"  # the same file each time
    for name, (draw, *files) in FIGURES.items():
        loaded = [content(file) for file in files]
        for dark in (False, True):
            about = {"Description": f"numbers: {numbers(files)}", "Date": None}
            place = path(name, dark)
            place.parent.mkdir(parents=True, exist_ok=True)
            draw(dark, *loaded).savefig(place, metadata=about)


if __name__ == "__main__":
    main()
