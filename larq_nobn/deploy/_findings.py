"""How findings about a converted file are shown: as JSON, as a table, as a picture."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from .._files import replacing
from .._tables import as_text
from ._errors import ConversionError


@dataclass(frozen=True)
class Findings:
    """What a converted file holds; the part that audits and reports share."""

    path: str
    size_bytes: int
    lce_bconv2d: int
    float_ops: list[dict[str, Any]]
    binary_macs: int
    float_macs: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON types."""
        return asdict(self)

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """Returns the fields as JSON, and writes them to `path` if given."""
        text = json.dumps(self.to_dict(), indent=2)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text + "\n")
        return text

    def table(self) -> Table:
        """Returns the findings as a `rich` table."""
        table = Table(title=self.path, title_justify="left", show_header=False)
        table.add_row("size", f"{self.size_bytes / 1e3:,.1f} kB")
        table.add_row("binary convolutions", self._binary())
        table.add_row("binary MACs", f"{self.binary_macs / 1e6:,.2f} M")
        table.add_row("float MACs", f"{self.float_macs / 1e6:,.2f} M")
        for op in self.float_ops:
            layers = ", ".join(dict.fromkeys(op["layers"]))
            table.add_row(f"float {op['op']}", f"{op['count']}: {layers}")
        return table

    def __str__(self) -> str:
        return as_text(self.table())

    def _binary(self) -> str:
        return str(self.lce_bconv2d)

    def plot(self, path: str | os.PathLike) -> None:
        """Draws binary against float work, and the float operations, as a PNG file.

        Raises:
            ConversionError: If matplotlib is missing.
            OSError: If `path` cannot be written.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ConversionError(
                "matplotlib is not installed, and pictures need it. "
                "Run: pip install larq-nobn[plots]"
            ) from error
        figure = Figure(figsize=(8, 1.8 + 0.3 * len(self.float_ops)), layout="tight")
        work, left = figure.subplots(1, 2, width_ratios=(1, 2))
        macs = {"binary": self.binary_macs / 1e6, "float": self.float_macs / 1e6}
        bars = work.bar(
            list(macs), list(macs.values()), color=("tab:blue", "tab:orange")
        )
        work.bar_label(bars, fmt="%.2f")
        work.margins(y=0.15)
        work.set_title("million MACs")
        names = [op["op"] for op in self.float_ops][::-1]
        counts = [op["count"] for op in self.float_ops][::-1]
        left.bar_label(left.barh(names, counts, color="tab:orange"), padding=2)
        left.margins(x=0.1)
        left.set_title(
            f"float operations beside {self.lce_bconv2d} binary convolutions"
        )
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
