"""One configuration beside batch norm and none: accuracy, time, memory, operations."""

from __future__ import annotations

from .grids import accuracy
from .markdown import table

COMPARED = ("nobn", "batch_norm", "none")
EPOCHS = (5, 10, 30)
SIZES = ("width 16, batch 128", "width 64, batch 32")
LARGE = "width 64, batch 128"


def overview(budgets, train_step, normalizations):
    """A row for each normalization, the recipe `nobn` in all of its row."""
    reached = {
        (group["settings"]["normalization"], group["settings"]["epochs"]): group
        for group in budgets["groups"]
    }
    steps = [train_step["sizes"][size]["rows"] for size in SIZES]
    large = train_step["memory"][LARGE]
    return table(
        [
            "",
            *(f"accuracy, {epochs} epochs" for epochs in EPOCHS),
            *(f"step, {size}" for size in SIZES),
            *(f"memory, {size}" for size in (*SIZES, LARGE)),
            "float operations",
        ],
        [
            [
                f"`{name}`",
                *(accuracy(reached.get((name, n)), alone=False) for n in EPOCHS),
                *(f"{rows[name]['time_ratio']:.2f}" for rows in steps),
                *(f"{rows[name]['memory_ratio']:.2f}" for rows in (*steps, large)),
                sum(normalizations["rows"][name]["float_ops"].values()),
            ]
            for name in COMPARED
        ],
    )
