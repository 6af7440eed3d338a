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


def described(rows, columns, corner=""):
    """A table of named rows, by titles of columns and what makes their cells."""
    return table(
        [corner, *columns],
        [
            [name, *(cell(row) for cell in columns.values())]
            for name, row in rows.items()
        ],
    )


def number(key, form="{:,.0f}", unit=1):
    """A cell of one number of a row; a dash where the row has none."""
    return lambda row: form.format(unit * row[key]) if key in row else "-"


def coded(rows):
    """The same rows, whose names are names in the code."""
    return {f"`{name}`": row for name, row in rows.items()}


def spread(values):
    """Mean (lowest to highest), to one digit."""
    mean = statistics.mean(values)
    return f"{mean:.1f} ({min(values):.1f} to {max(values):.1f})"
