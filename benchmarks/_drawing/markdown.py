"""A table in Markdown, in columns that a terminal shows as well."""

from __future__ import annotations

import statistics


def table(head, rows):
    rows = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    padded = (
        [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        for row in rows
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def spread(values):
    """Mean (lowest to highest), to one digit."""
    mean = statistics.mean(values)
    return f"{mean:.1f} ({min(values):.1f} to {max(values):.1f})"
