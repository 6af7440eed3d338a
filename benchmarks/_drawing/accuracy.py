"""Accuracies over seeds: by the recipe plain, of every normalization, after surgery."""

from __future__ import annotations

import statistics

from .markdown import spread, table


def cifar10_accuracy(result):
    rows = result["rows"]
    epochs = range(1, 1 + max(len(row["mean_per_epoch"]) for row in rows.values()))
    return table(
        ["", *epochs, "last epoch, by seed"],
        [
            [
                f"`{name}`",
                *(f"{mean:.1f}" for mean in row["mean_per_epoch"]),
                ", ".join(f"{last:.1f}" for last in row["last_per_seed"]),
            ]
            for name, row in rows.items()
        ],
    )


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


def plain_gap(result):
    """By how many points `nobn` is after batch norm."""
    last = {name: row["mean_per_epoch"][-1] for name, row in result["rows"].items()}
    return f"{last['batch_norm'] - last['nobn']:.1f}"


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


def normalizations_panels(result):
    """For `_drawing.plots.dots`."""
    rows = result["rows"]
    tasks = {
        f"{task}: accuracy, %": {
            n: low_to_high(r["accuracy"][task]) for n, r in rows.items()
        }
        for task in result["tasks"]
    }
    costs = {
        f"{name} of a step": {n: 3 * [row[key]] for n, row in rows.items()}
        for name, key in (("time", "time_ratio"), ("peak memory", "memory_ratio"))
    }
    return {heading: {"": measured} for heading, measured in (tasks | costs).items()}


def micro_batches(result):
    forms = {"batch norm": "batch norm, training mode", "folded": "folded"}
    return table(
        ["", *forms.values()],
        [
            [condition(name), *(spread(row[form]) for form in forms)]
            for name, row in result["rows"].items()
        ],
    )


def condition(name):
    """The name of a row, with the learning rate as one writes it."""
    stream, _, rate = name.partition(", ")
    if not rate:
        return stream
    return f"{stream}, learning rate {float(rate):.0e}".replace("e-0", "e-")


def micro_batches_panels(result):
    """For `_drawing.plots.dots`."""
    forms = {"batch norm": "batch norm, training mode", "folded": "folded"}
    return {
        "test accuracy, %": {
            legend: {
                condition(name): low_to_high(row[form])
                for name, row in result["rows"].items()
            }
            for form, legend in forms.items()
        }
    }


def low_to_high(values):
    return min(values), statistics.mean(values), max(values)


def folding_change(result):
    """By how many points, at most, folding changed the accuracy of a network."""
    before = result["rows"]["before"]
    pairs = zip(before["batch norm"], before["folded"], strict=True)
    return f"{max(abs(one - other) for one, other in pairs):.2f}"


def batch_norm_loss(result):
    return lost(result, "batch norm")


def folded_loss(result):
    return lost(result, "folded")


def lost(result, form):
    """Points lost on pairs of one class at the larger learning rate."""
    rows = result["rows"]
    before = statistics.mean(rows["before"][form])
    return f"{before - statistics.mean(rows['pairs of one class, 0.001'][form]):.0f}"
