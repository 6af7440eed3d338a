"""What a classifier takes for what: collected, as tables, and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from .._console import percent
from .._package import data, diagnostics

# The widest matrix that a terminal has room for, and the classes of a list.
_MATRIX, _LIST = 12, 10
# The widest that a JSON holds.
_WRITTEN = 200
# Mistakes on a sheet.
_SHEET = 24


class Seen:
    """What becomes of the test images, class by class, and the worst mistakes.

    Attributes:
        info: What the images are prepared as, and the names of the classes.
        files: Where they lie, if in files of their own.
    """

    def __init__(self) -> None:
        self.info: data.DatasetInfo | None = None
        self.files: Sequence[str] | None = None
        self.confusion = diagnostics.ConfusionMatrix()
        self._mistakes = diagnostics.Mistakes(_SHEET)
        self._started = False

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, outputs: np.ndarray
    ) -> None:
        """Looks at a batch."""
        if not self._started:
            names = self.info.class_names if self.info else ()
            fits = len(names) == outputs.shape[1]
            self.confusion = diagnostics.ConfusionMatrix(names if fits else None)
            self._started = True
        self.confusion.update(labels, outputs)
        self._mistakes.update(images, labels, outputs)

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON says of it; the matrix where it is not huge."""
        found = self.confusion.to_dict()
        if len(found["classes"]) > _WRITTEN:
            del found["confusion"]
        found["mistakes"] = [self._said(each) for each in self._mistakes.found]
        return found

    def _said(self, each: diagnostics.Mistake) -> dict[str, Any]:
        names = self.confusion.class_names
        return {
            "image": each.index if self.files is None else self.files[each.index],
            "label": names[each.label],
            "predicted": names[each.predicted],
            "probability": each.probability,
        }

    def draw_mistakes(self, target: Path, title: str) -> None:
        """Draws the sheet."""
        mean, std = (self.info.mean, self.info.std) if self.info else ((), ())
        names = self.confusion.class_names
        self._mistakes.draw(target, names, mean, std, title)


def classes_table(found: diagnostics.ConfusionMatrix) -> Table:
    """The matrix of few classes, or the worst of many."""
    names, counts, shares = found.class_names, found.counts, found.accuracies()
    said = ["-" if np.isnan(share) else percent(share) for share in shares]
    if len(names) <= _MATRIX:
        table = Table(
            title="Images of each class (rows) by what they are taken for",
            title_justify="left",
        )
        table.add_column("")
        for name in (*names, "right"):
            table.add_column(name, justify="right", overflow="fold")
        for name, row, share in zip(names, counts, said, strict=True):
            table.add_row(name, *(str(n) if n else "·" for n in row), share)
        return table
    table = Table(title="The classes recognized worst", title_justify="left")
    for name in ("class", "images", "right", "most often taken for"):
        table.add_column(
            name, justify="right" if name in ("images", "right") else "left"
        )
    wrong = counts - np.diag(np.diag(counts))
    for k in np.argsort(shares, kind="stable")[:_LIST]:
        other = wrong[k].argmax()
        taken = f"{names[other]} ({wrong[k, other]})" if wrong[k, other] else "-"
        table.add_row(names[k], str(counts[k].sum()), said[k], taken)
    return table
