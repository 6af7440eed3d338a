from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.table import Table

from .._checks import check_integer, check_list
from .._errors import InvalidValue, needing
from .._figures import check_plot, drawable, new_figure, shortened
from .._files import replacing

_TOP = 5
# Most classes of a matrix that fits into a terminal, and most rows of a list.
_MATRIX, _LIST = 12, 10
# The most classes of a plot with a number in each square, and of one with names at its
# sides, and the most characters of such a name.
_NUMBERED, _NAMED, _LONGEST = 20, 60, 20


class ConfusionMatrix:
    r"""Accumulates a confusion matrix batch by batch.

    \[ C_{ij} = |\{n : y_n = i,\ \operatorname{argmax}_k z_{nk} = j\}| \]

    for labels \(y_n\) and outputs \(z_n\). If outputs are equal, the first one counts.

    Arguments:
        class_names: One name per class, in the order of the outputs; None for numbers.

    Raises:
        ValueError: In `update`, if the shapes of outputs and labels do not match each
            other or the names.

    Example:
        ```python
        import larq_nobn as nobn

        matrix = nobn.diagnostics.ConfusionMatrix(["cat", "dog"])
        matrix.update([0, 1, 1], [[2.0, 1.0], [3.0, 0.0], [0.0, 1.0]])
        print(matrix.counts, matrix.accuracies())  # [[1 0] [1 1]] [1. 0.5]
        ```
    """

    def __init__(self, class_names: Sequence[str] | None = None) -> None:
        names = () if class_names is None else check_list("class_names", class_names)
        self._names = names or None
        self._counts = np.zeros((0, 0), np.int64)
        self._among_first = 0

    @property
    def counts(self) -> np.ndarray:
        """Returns the matrix C, (classes, classes)."""
        return self._counts

    @property
    def class_names(self) -> tuple[str, ...]:
        """Returns a name for each class."""
        return self._names or tuple(map(str, range(len(self._counts))))

    def update(self, labels: Any, outputs: Any) -> None:
        """Counts a batch.

        Arguments:
            labels: (N,), whole numbers.
            outputs: (N, classes), logits or probabilities.
        """
        y, z = np.asarray(labels), np.asarray(outputs)
        wanted = len(self._names) if self._names else z.shape[-1] if z.ndim else 0
        if z.ndim != 2 or y.shape != z.shape[:1] or z.shape[1] != wanted:
            raise InvalidValue(
                f"outputs of shape {z.shape} and labels of shape {y.shape} do not fit "
                f"{wanted} classes. Pass shapes (examples, {wanted}) and (examples,)."
            )
        whole = y.dtype.kind in "iu" and z.dtype.kind in "fiu"
        if not whole or ((y < 0) | (y >= wanted)).any():
            raise InvalidValue(
                f"labels={reprlib.repr(labels)} are not whole numbers below {wanted}, "
                "or outputs are not numbers. Pass one class and outputs per example."
            )
        if not len(self._counts):
            self._counts = np.zeros((wanted, wanted), np.int64)
        np.add.at(self._counts, (y, z.argmax(1)), 1)
        own = z[np.arange(len(y)), y][:, np.newaxis]
        earlier = np.arange(wanted) < y[:, np.newaxis]  # these win ties
        ranks = np.sum((z > own) | ((z == own) & earlier), 1)
        self._among_first += int(np.sum(ranks < _TOP))

    def accuracies(self) -> np.ndarray:
        """Returns the recall of each class; NaN if it has no example."""
        totals = self._counts.sum(1)
        right = np.diag(self._counts).astype(np.float64)
        return np.divide(right, totals, np.full(len(totals), np.nan), where=totals > 0)

    def top5(self) -> float | None:
        """Returns the fraction of examples whose class is among the top five.

        Returns None for five classes or fewer, and if there are no examples.
        """
        total = int(self._counts.sum())
        return self._among_first / total if total and len(self._counts) > _TOP else None

    def confused(self, count: int = 20) -> list[tuple[int, int, int]]:
        """Returns the most frequent mistakes, as (class, predicted class, count).

        Arguments:
            count: Largest number of mistakes, 1 or more.
        """
        check_integer("count", count, 1, "20 is a good number.")
        wrong = self._counts - np.diag(np.diag(self._counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return [(int(i), int(j), int(wrong[i, j])) for i, j in pairs if wrong[i, j]]

    def table(self) -> Table:
        """Returns the matrix as a table, or the worst classes if there are over 12."""
        names, counts, recalls = self.class_names, self.counts, self.accuracies()
        texts = ["-" if np.isnan(x) else f"{100 * x:.1f} %" for x in recalls]
        if len(names) <= _MATRIX:
            title = "Confusion matrix (true class in rows)"
            table = Table("", title=title, title_justify="left")
            for name in (*names, "recall"):
                table.add_column(name, justify="right", overflow="fold")
            for name, row, text in zip(names, counts, texts, strict=True):
                table.add_row(name, *(str(n) if n else "·" for n in row), text)
            return table
        table = Table("class", title="Classes with the lowest recall")
        table.title_justify = "left"
        for name in ("images", "recall"):
            table.add_column(name, justify="right")
        table.add_column("most often predicted as")
        wrong = counts - np.diag(np.diag(counts))
        for k in np.argsort(recalls, kind="stable")[:_LIST]:
            other = wrong[k].argmax()
            most = f"{names[other]} ({wrong[k, other]})" if wrong[k, other] else "-"
            table.add_row(names[k], str(counts[k].sum()), texts[k], most)
        return table

    def draw(self, path: str | os.PathLike, title: str = "") -> None:
        """Draws the matrix in percent of each row, a row per class.

        Arguments:
            path: A name that ends in .png.
            title: A line above the plot.

        Raises:
            ImportError: If matplotlib or scikit-learn is not installed.
            ValueError: If the name does not end in .png.
            OSError: If the file cannot be written.
        """
        target = check_plot(path)
        with needing(f"{target.name} needs scikit-learn", "plots"):
            from sklearn.metrics import ConfusionMatrixDisplay
        classes, named = len(self._counts), len(self._counts) <= _NAMED
        side = min(4 + 0.35 * classes, 12)
        figure = new_figure(target, (side + 0.8, side))
        names = [shortened(name, _LONGEST) for name in self.class_names]
        sums = np.maximum(self._counts.sum(1, keepdims=True), 1)
        display = ConfusionMatrixDisplay(
            100 * self._counts / sums, display_labels=names if named else None
        ).plot(
            ax=figure.subplots(),
            include_values=classes <= _NUMBERED,
            values_format=".0f",
            cmap="Blues",
            xticks_rotation="vertical",
            im_kw={"vmin": 0, "vmax": 100},
        )
        display.ax_.set(title=drawable(title), ylabel="true class", xlabel="predicted")
        if not named:
            display.ax_.set(xticks=[], yticks=[])
        with replacing(target) as temporary:
            figure.savefig(temporary, dpi=120)

    def to_dict(self) -> dict[str, Any]:
        """Returns `classes`, `confusion` and `confused`, as values for JSON.

        With more than five classes, `top5_accuracy` is included.
        """
        names, top5 = self.class_names, self.top5()
        totals, recalls = self._counts.sum(1).tolist(), self.accuracies().tolist()
        result: dict[str, Any] = {} if top5 is None else {"top5_accuracy": top5}
        result["classes"] = [
            {"label": name, "examples": total, "accuracy": recall if total else None}
            for name, total, recall in zip(names, totals, recalls, strict=True)
        ]
        result["confusion"] = self._counts.tolist()
        result["confused"] = [
            {"label": names[i], "predicted": names[j], "count": times}
            for i, j, times in self.confused()
        ]
        return result
