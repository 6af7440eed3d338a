"""Draws the figures of README and of the guides from files in results/.

They are for light and dark pages. Each SVG in docs/images/ bears the SHA-256 of the
numbers it shows, by which a test finds those that are older than their numbers. Nothing
is measured, and TensorFlow is not needed.

    python benchmarks/figures.py             # or: make evidence
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from _drawing.figures import FIGURES

ROOT = Path(__file__).resolve().parents[1]


def content(files):
    return [json.loads((ROOT / "results" / file).read_text("utf-8")) for file in files]


def numbers(files):
    """The SHA-256 of what a figure shows."""
    found = hashlib.sha256()
    for file in files:
        found.update((ROOT / "results" / file).read_bytes())
    return found.hexdigest()


def path(name, dark=False):
    return ROOT / "docs" / "images" / f"{name}{'-dark' if dark else ''}.svg"


def write(figure, place, description):
    """Always the same file of the same figure."""
    import matplotlib

    matplotlib.rcParams["svg.hashsalt"] = "larq_nobn"
    figure.savefig(place, metadata={"Description": description, "Date": None})


def main():
    for name, (draw, *files) in FIGURES.items():
        for dark in (False, True):
            figure = draw(dark, *content(files))
            write(figure, path(name, dark), f"numbers: {numbers(files)}")


if __name__ == "__main__":
    main()
