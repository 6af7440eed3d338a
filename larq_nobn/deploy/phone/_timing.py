"""The times of files side by side, wherever they were measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from .._shown import Shown


@dataclass(frozen=True)
class Timing:
    """The times of one file.

    Attributes:
        path: The file.
        size_bytes: Its size.
        lce_bconv2d: Its binary convolutions.
        float_ops: How many operations it leaves in float, as `audit` counts them.
        threads: Threads of the interpreter; None where a log does not say.
        runs: Timed runs.
        ms: The typical run, in milliseconds.
        typical: What `ms` is: `"median"`, or `"mean"` where a log has no median.
        low_ms: Lower end of the spread.
        high_ms: Upper end of the spread.
        spread: What lies between the ends: `"quartiles"`, `"5 to 95 %"` or `"range"`.
        ratio: `ms` over that of the first file.
        ratio_low: Lower end of the 95 % interval of `ratio`; None for logs.
        ratio_high: Upper end of it.
        operations: Where a log has them, the time of each kind of operation,
            `{"op", "count", "ms", "share"}`, the slowest first.
    """

    path: str
    size_bytes: int
    lce_bconv2d: int
    float_ops: int
    threads: int | None
    runs: int
    ms: float
    typical: str
    low_ms: float
    high_ms: float
    spread: str
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    operations: list[dict[str, Any]]


@dataclass(frozen=True)
class Benchmark(Shown):
    """The times of one file or of several side by side.

    Attributes:
        source: What ran the files.
        note: What these times stand for, and what they do not.
        timings: One `Timing` for each file; ratios are to the first.
    """

    source: str
    note: str
    timings: list[Timing]

    def table(self) -> Table:
        """Returns the times as a `rich` table, one column for each file."""
        table = Table(
            title=f"Time of one run, {self.source}",
            title_justify="left",
            caption=self.note,
            caption_justify="left",
        )
        table.add_column()
        for timing in self.timings:
            table.add_column(timing.path, justify="right", overflow="fold")
        for label, text in _ROWS.items():
            table.add_row(label, *(text(timing) for timing in self.timings))
        times = [{op["op"]: op for op in t.operations} for t in self.timings]
        for name in dict.fromkeys(name for ops in times for name in ops):
            table.add_row(name, *(_operation(ops.get(name)) for ops in times))
        return table


def _ratio(timing: Timing) -> str:
    if timing.ratio_low is None or timing.ratio_low == timing.ratio_high:
        return f"{timing.ratio:.3f}"
    return f"{timing.ratio:.3f} ({timing.ratio_low:.3f} to {timing.ratio_high:.3f})"


_ROWS: dict[str, Callable[[Timing], str]] = {
    "size": lambda t: f"{t.size_bytes / 1e3:,.1f} kB",
    "binary convolutions": lambda t: str(t.lce_bconv2d),
    "float operations": lambda t: str(t.float_ops),
    "threads": lambda t: "not logged" if t.threads is None else str(t.threads),
    "timed runs": lambda t: str(t.runs),
    "typical run": lambda t: f"{t.ms:,.3f} ms, {t.typical}",
    "spread": lambda t: f"{t.low_ms:,.3f} to {t.high_ms:,.3f} ms, {t.spread}",
    "ratio to first (95 %)": _ratio,
}


def _operation(op: dict[str, Any] | None) -> str:
    if op is None:
        return ""
    return f"{op['count']} in {op['ms']:,.3f} ms, {op['share']:.1%}"
