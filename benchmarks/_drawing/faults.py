"""Which planted faults the suite catches, and which one before it caught."""

from __future__ import annotations

from .markdown import table


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
