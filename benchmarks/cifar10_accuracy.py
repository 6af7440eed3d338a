"""What ReActNet-18 of width 16 learns from CIFAR-10 in five epochs.

Three normalizations with adaptive gradient clipping, the same optimizer and the same
number of steps; all 50,000 training images, accuracy on the 10,000 test images. A run
is what `larq-nobn train --model ReActNet18 --normalization NAME --dataset cifar10
--width 16 --epochs 5 --seed SEED` does; finished runs in the folder are not repeated.

    python benchmarks/cifar10_accuracy.py --seeds 3 --folder runs/cifar10_accuracy
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from pathlib import Path

import larq_nobn as nobn
import click
from rich.console import Console
from rich.table import Table

RESULT = Path(__file__).with_suffix(".json")
LOGS = Path(__file__).parent / "logs" / "cifar10_accuracy"
EPOCHS = 5
NORMALIZATIONS = ("batch_norm", "none", "nobn")


def finished_run(normalization, seed, folder):
    place = folder / f"{normalization}-{seed}"
    if not (place / "run.json").exists():
        settings = nobn.training.RunSettings(
            normalization=normalization, width=16, epochs=EPOCHS, seed=seed
        )
        nobn.training.train(settings, place)
    log = LOGS / place.name
    log.mkdir(parents=True, exist_ok=True)
    for name in ("run.json", "history.csv"):
        shutil.copyfile(place / name, log / name)
    run = nobn.training.load_run(place)
    accuracies = [100 * row["val_accuracy"] for row in run.history]
    print(place.name, " ".join(f"{a:.1f}" for a in accuracies), flush=True)
    return accuracies, run.record["versions"]


@click.command()
@click.option("--seeds", default=3, show_default=True, help="Runs of each.")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
def main(seeds, folder):
    result = {
        "command": " ".join(["python benchmarks/cifar10_accuracy.py", *sys.argv[1:]]),
        "rows": {},
    }
    table = Table(title="CIFAR-10, ReActNet-18 width 16: test accuracy, %")
    table.add_column("normalization")
    for epoch in range(1, EPOCHS + 1):
        table.add_column(f"epoch {epoch}", justify="right")
    table.add_column("last, over seeds", justify="right")
    for normalization in NORMALIZATIONS:
        runs = [finished_run(normalization, seed, folder) for seed in range(seeds)]
        epochs = zip(*(accuracies for accuracies, _ in runs), strict=True)
        means = [statistics.mean(each) for each in epochs]
        last = [round(accuracies[-1], 2) for accuracies, _ in runs]
        result["versions"] = runs[0][1]
        result["rows"][normalization] = {
            "mean_per_epoch": [round(mean, 2) for mean in means],
            "last_per_seed": last,
        }
        shown = [f"{mean:.1f}" for mean in means]
        table.add_row(normalization, *shown, f"{min(last):.1f} to {max(last):.1f}")
    scratch = RESULT.with_name(RESULT.name + ".part")
    scratch.write_text(json.dumps(result, indent=1) + "\n")
    scratch.replace(RESULT)
    Console().print(table)


if __name__ == "__main__":
    main()
