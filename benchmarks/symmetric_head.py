"""What a symmetric head does to alignment, to the steadiness of training, to accuracy.

Reads the runs that `experiments.py heads` has left in a folder, dense and symmetric
heads side by side for each data set. Alignment is the mean cosine of
`class_center_alignment`
over the classes, on the test images; steadiness is the standard deviation of the test
accuracy over the second half of the epochs, and that of the last one over the seeds.

    python benchmarks/symmetric_head.py --folder runs/evidence/heads
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path

import larq_nobn as nobn
import click
import numpy as np
from _results import command, machine, versions, write
from rich.console import Console
from rich.table import Table


def measured(cell):
    """Of one run: data set and head, and what it says of them."""
    settings = json.loads((cell / "run.json").read_text())["settings"]
    run = nobn.training.load_run(cell)
    images = nobn.data.load(settings["dataset"], "test", 256)
    found = nobn.class_center_alignment(run.model, images)
    accuracies = [100 * row["val_accuracy"] for row in run.history]
    return (settings["dataset"], settings["network"].get("head", "dense")), {
        "seed": settings["seed"],
        "accuracy": round(accuracies[-1], 2),
        "epoch_std": round(float(np.std(accuracies[len(accuracies) // 2 :])), 3),
        "alignment": round(float(np.nanmean(found.cosine)), 4),
        "alignment_min": round(float(np.nanmin(found.cosine)), 4),
        "weight_sum": round(found.weight_sum_norm / np.mean(found.weight_norm), 4),
    }


def table(groups):
    """Means over the seeds, one line for each data set and head."""
    columns = ("accuracy", "over seeds", "over epochs", "alignment", "of the worst")
    result = Table("data set", "head", "runs", *columns)
    for (dataset, head), rows in groups.items():

        def mean(name, rows=rows):
            return f"{statistics.mean(row[name] for row in rows):.2f}"

        spread = statistics.pstdev(row["accuracy"] for row in rows)
        rest = (mean(name) for name in ("epoch_std", "alignment", "alignment_min"))
        numbers = (mean("accuracy"), f"{spread:.2f}", *rest)
        result.add_row(dataset, head, str(len(rows)), *numbers)
    return result


@click.command()
@click.option("--folder", type=Path, required=True, help="Of the finished runs.")
@click.option("--result", type=Path, default=Path("results/heads/alignment.json"))
def main(folder, result):
    groups = defaultdict(list)
    for cell in sorted(path.parent for path in folder.glob("*/run.json")):
        kind, row = measured(cell)
        groups[kind].append(row)
    found = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "rows": {"-".join(kind): rows for kind, rows in groups.items()},
    }
    write(found, result)
    Console().print(table(groups))


if __name__ == "__main__":
    main()
