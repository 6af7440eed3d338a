"""One configuration with, without and instead of batch norm."""

from __future__ import annotations

from .accuracy import BOTH, LOSSES, larger_rows
from .grids import accuracy, calibration, loss
from .markdown import table

COMPARED = ("nobn", "batch_norm", "none")
EPOCHS = (5, 10, 30)
SIZES = ("width 16, batch 128", "width 64, batch 32")
LARGE = "width 64, batch 128"
CALIBRATION = "calibration error in %, width 16, 5 epochs"


def overview(budgets, calibrated, larger, train_step, normalizations):
    """Accuracy, loss and cost of each normalization by its own recipe."""
    reached = {
        (group["settings"]["normalization"], group["settings"]["epochs"]): group
        for group in budgets["groups"]
    }
    sizes = train_step["sizes"]
    large = train_step["memory"][LARGE]
    rows = [
        (
            f"CIFAR-10, width 16, {n} epochs",
            lambda name, n=n: accuracy(reached.get((name, n)), alone=False),
        )
        for n in EPOCHS
    ]
    rows += [
        (f"time, {size}", lambda name, size=size: step(sizes[size], name, "time_ratio"))
        for size in SIZES
    ]
    rows += [
        (
            f"memory, {size}",
            lambda name, size=size: step(sizes[size], name, "memory_ratio"),
        )
        for size in SIZES
    ]
    rows += [
        (f"memory, {LARGE}", lambda name: f"{large[name]['memory_ratio']:.2f}"),
        (
            "TFLite float operations",
            lambda name: sum(normalizations["rows"][name]["float_ops"].values()),
        ),
    ]
    cells = [[title, *map(cell, COMPARED)] for title, cell in rows]
    shorter = [
        [*row, *(loss(reached[name, n]) for name in BOTH)]
        for n, row in zip(EPOCHS, cells, strict=False)
    ]
    longer = [[*row[:3], "-", *row[-2:]] for row in larger_rows(larger)]
    costs = [[*row, "", ""] for row in cells[len(EPOCHS) :]]
    errors = {
        group["settings"]["normalization"]: calibration(group)
        for group in calibrated["groups"]
    }
    calibrations = [CALIBRATION, *(errors.get(name, "-") for name in COMPARED), "", ""]
    return table(
        ["", *(f"`{name}`" for name in COMPARED), *LOSSES],
        [*shorter, *longer, calibrations, *costs],
    )


def step(size, name, ratio):
    return f"{size['rows'][name][ratio]:.2f}"
