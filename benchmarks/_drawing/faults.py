"""What came of random networks, and which mutations the suite catches."""

from __future__ import annotations

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
    parts = dict.fromkeys(row["part"] for row in now.values())

    def caught(results, part):
        return sum(
            row["status"] == "caught" for row in results.values() if row["part"] == part
        )

    rows = [
        [
            f"`{part}`",
            str(sum(row["part"] == part for row in now.values())),
            str(caught(before, part)),
            str(caught(now, part)),
        ]
        for part in parts
    ]
    total = [sum(int(row[column]) for row in rows) for column in (1, 2, 3)]
    return table(["", "faults", "caught before", "caught"], [*rows, ["all", *total]])
