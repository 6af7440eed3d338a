"""What came of random networks, and which mutations the suite catches."""

from __future__ import annotations

from collections import Counter

from .markdown import table


def fuzz(found):
    """A row per outcome."""
    words = {"refused": "rejected"}
    rows = [[words.get(n, n), f"{count:,}"] for n, count in found["outcomes"].items()]
    return table(["", "networks"], [*rows, ["all", f"{found['networks']:,}"]])


def fuzz_reasons(found):
    """A row per reason to reject, without names and numbers."""
    rows = [[reason, count] for reason, count in found["reasons"].items()]
    return table(["reason", "networks"], rows)


def mutants(found):
    """A row per part of the package, then those that are not caught."""
    now, before = found["faults"], found["before"]["faults"]
    counts = [
        Counter(row["part"] for row in now.values()),
        *(
            Counter(r["part"] for r in of.values() if r["status"] == "caught")
            for of in (before, now)
        ),
    ]
    rows = [[f"`{part}`", *(of[part] for of in counts)] for part in counts[0]]
    totals = [of.total() for of in counts]
    return table(["", "faults", "caught before", "caught"], [*rows, ["all", *totals]])
