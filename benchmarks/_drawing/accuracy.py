"""Accuracies over seeds: by the recipe plain, of every normalization, after surgery."""

from __future__ import annotations

import statistics

from .markdown import spread, table

# Titles of what accelerator.py trains, by the names of the runs.
LARGER = {
    "w16-100": "CIFAR-10, width 16, 100 epochs",
    "w32-30": "CIFAR-10, width 32, 30 epochs",
    "w64-30+30": "CIFAR-10, width 64, two stages of 30 epochs",
    "w32-c100-30": "CIFAR-100, width 32, 30 epochs",
}


def larger(kept):
    return table(["", "`nobn`", "`batch_norm`", "difference"], larger_rows(kept))


def larger_rows(kept):
    """Title, both accuracies in %, and by how many points `nobn` leads."""
    rows = []
    for cell, title in LARGER.items():
        both = [larger_accuracies(kept, name, cell) for name in ("nobn", "batch_norm")]
        means = [statistics.mean(values) for values in both]
        rows.append([title, *map(seeds, both), f"{means[0] - means[1]:+.1f}"])
    return rows


def larger_accuracies(kept, name, cell):
    runs = kept["runs"].items()
    return [
        100 * run["metrics"]["val_accuracy"]
        for key, run in runs
        if key.rpartition("-")[0] == f"{name}-{cell}"
    ]


def seeds(values):
    return spread(values) if len(values) > 1 else f"{values[0]:.1f} (1 seed)"


def width_64_lead(kept):
    return larger_rows(kept)[2][-1].lstrip("+")


def normalizations(result):
    return table(
        [
            "",
            *result["tasks"],
            "time",
            "memory",
            "float operations",
            "constant",
        ],
        [
            [
                f"`{name}`",
                *(spread(each) for each in row["accuracy"].values()),
                *costs(row),
                f"{row['stuck_channels']:.0%}",
            ]
            for name, row in result["rows"].items()
        ],
    )


def costs(row):
    operations = f"{sum(row['float_ops'].values())} ({row['extra_float_ops']:+d})"
    return f"{row['time_ratio']:.2f}", f"{row['memory_ratio']:.2f}", operations
