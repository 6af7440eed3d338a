"""What came of random networks, and why some were refused."""

from __future__ import annotations

from .markdown import table


def fuzz(found):
    """A row per outcome."""
    rows = [[name, f"{count:,}"] for name, count in found["outcomes"].items()]
    return table(["", "networks"], [*rows, ["all", f"{found['networks']:,}"]])


def fuzz_reasons(found):
    """A row per reason to refuse, without names and numbers."""
    rows = [[reason, count] for reason, count in found["reasons"].items()]
    return table(["reason", "networks"], rows)
