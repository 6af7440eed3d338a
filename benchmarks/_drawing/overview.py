"""One configuration with, without and instead of batch norm."""

from __future__ import annotations

from .accuracy import BOTH, LOSSES, larger_rows
from .grids import accuracy, loss
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
    errors = {g["settings"]["normalization"]: g for g in calibrated["groups"]}
    sizes, large = train_step["sizes"], train_step["memory"][LARGE]

    def of_sizes(what):
        for size in SIZES:
            rows = sizes[size]["rows"]
            yield [f"{what}, {size}", *map(ratio(rows, what), COMPARED), "", ""]

    def ratio(rows, what):
        return lambda name: f"{rows[name][f'{what}_ratio']:.2f}"

    def calibration(name):
        return accuracy(errors.get(name), False, "test_calibration_error")

    def operations(name):
        return sum(normalizations["rows"][name]["float_ops"].values())

    rows = [
        [
            f"CIFAR-10, width 16, {n} epochs",
            *(accuracy(reached.get((name, n)), alone=False) for name in COMPARED),
            *(loss(reached[name, n]) for name in BOTH),
        ]
        for n in EPOCHS
    ]
    rows += [[*row[:3], "-", *row[-2:]] for row in larger_rows(larger)]
    rows += [[CALIBRATION, *map(calibration, COMPARED), "", ""]]
    rows += [*of_sizes("time"), *of_sizes("memory")]
    rows += [[f"memory, {LARGE}", *map(ratio(large, "memory"), COMPARED), "", ""]]
    rows += [["TFLite float operations", *map(operations, COMPARED), "", ""]]
    return table(["", *(f"`{name}`" for name in COMPARED), *LOSSES], rows)
