"""Training in batches of one, two and four photos."""

from __future__ import annotations

import statistics

from .markdown import table


def small_batches(result):
    """A row for each stream of batches, a column for each normalization.

    The logs call reflection padding "mirrored".
    """
    rows = result["rows"]
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    return table(
        ["batch size", *(f"`{name}`" for name in names)],
        [
            [
                stream.replace("mirrored", "reflected"),
                *(accuracy(row.get(name)) for name in names),
            ]
            for stream, row in rows.items()
        ],
    )


def accuracy(cell):
    if cell is None:
        return "-"
    reached = cell["reached"]
    mean = f"{statistics.mean(reached):.1f}"
    if len(reached) == 1:
        return f"{mean} (1 seed)"
    return f"{mean} ({min(reached):.1f} to {max(reached):.1f})"


def small_batch_rates(result):
    """On held-out images: a row for each size and normalization, a column per rate."""
    choices = result["choices"]
    rates = sorted(
        {rate for of in choices.values() for found in of.values() for rate in found},
        key=float,
    )
    rows = []
    for size, of in choices.items():
        for name, found in of.items():
            best = max(found.values(), default=None)
            said = {
                rate: f"**{reached:.1f}**" if reached == best else f"{reached:.1f}"
                for rate, reached in found.items()
            }
            rows.append([size, f"`{name}`", *(said.get(rate, "-") for rate in rates)])
    return table(["batch size", "", *rates], rows)
