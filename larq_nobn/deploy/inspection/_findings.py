"""How findings about a converted file are shown: as JSON, as a table, as a picture."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from .._shown import Shown
from ._diagram import empty_figure, save_figure


@dataclass(frozen=True, kw_only=True)
class Findings(Shown):
    """What a converted file holds; the part that audits and reports share."""

    path: str
    size_bytes: int
    lce_bconv2d: int
    float_ops: list[dict[str, Any]]
    binary_macs: int
    float_macs: int
    int8_ops: list[dict[str, Any]] = field(default_factory=list)
    int8_macs: int = 0
    in_float: list[dict[str, Any]] = field(default_factory=list)

    def table(self) -> Table:
        """Returns the findings as a `rich` table."""
        table = Table(title=self.path, title_justify="left", show_header=False)
        table.add_row("size", f"{self.size_bytes / 1e3:,.1f} kB")
        table.add_row("binary convolutions", self._binary())
        table.add_row("binary MACs", f"{self.binary_macs / 1e6:,.2f} M")
        table.add_row("float MACs", f"{self.float_macs / 1e6:,.2f} M")
        if self.int8_ops:
            table.add_row("int8 MACs", f"{self.int8_macs / 1e6:,.2f} M")
        for kind, ops in (("float", self.float_ops), ("int8", self.int8_ops)):
            for op in ops:
                layers = ", ".join(dict.fromkeys(op["layers"]))
                table.add_row(f"{kind} {op['op']}", f"{op['count']}: {layers}")
        for layer in self.in_float:
            cost = f"{layer['macs']:,} MACs, {layer['bytes']:,} bytes"
            found = f"{layer['layer']} ({layer['kind']}): {cost}"
            table.add_row("binary in the model, float in the file", found)
        return table

    def _binary(self) -> str:
        return str(self.lce_bconv2d)

    def plot(self, path: str | os.PathLike) -> None:
        """Draws binary against float work, and the float operations, as a PNG file.

        Raises:
            ConversionError: If matplotlib is missing.
            OSError: If `path` cannot be written.
        """
        figure = empty_figure(8, 1.8 + 0.3 * len(self.float_ops))
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
        save_figure(figure, path)
