"""What ReActNet-18 of width 16 learns from CIFAR-10 in five epochs.

Three normalizations with adaptive gradient clipping, the same optimizer and the same
number of steps; all 50,000 training images, accuracy on the 10,000 test images. A run
is what `larq-nobn train --model ReActNet18 --normalization NAME --dataset cifar10
--width 16 --recipe plain --epochs 5 --seed SEED` does; finished runs in the folder are
not repeated.

    python benchmarks/cifar10_accuracy.py --seeds 3 --folder runs/cifar10_accuracy
"""

from __future__ import annotations

import statistics
from pathlib import Path

import larq_nobn as nobn
import click
from _drawing import accuracy, grids, plots
from _results import RESULTS, command, say, write
from _runs import as_folders, keep_run

EPOCHS = 5
NORMALIZATIONS = ("batch_norm", "none", "nobn")


def finished_run(normalization, seed, folder, output):
    place = folder / f"{normalization}-{seed}"
    if not (place / "run.json").exists():
        settings = nobn.training.RunSettings(
            normalization=normalization, width=16, epochs=EPOCHS, seed=seed
        )
        nobn.training.train(settings, place)
    keep_run(place, output / place.name)
    run = nobn.training.load_run(place)
    accuracies = [100 * row["val_accuracy"] for row in run.history]
    print(place.name, " ".join(f"{a:.1f}" for a in accuracies), flush=True)
    return accuracies, run.record["versions"]


@click.command()
@click.option("--seeds", default=3, show_default=True, help="Runs of each.")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option(
    "--output", type=Path, default=RESULTS / "cifar10_accuracy", show_default=True
)
def main(seeds, folder, output):
    result = {"command": command(), "rows": {}}
    for normalization in NORMALIZATIONS:
        runs = [finished_run(normalization, s, folder, output) for s in range(seeds)]
        epochs = zip(*(accuracies for accuracies, _ in runs), strict=True)
        means = [statistics.mean(each) for each in epochs]
        last = [round(accuracies[-1], 2) for accuracies, _ in runs]
        result["versions"] = runs[0][1]
        result["rows"][normalization] = {
            "mean_per_epoch": [round(mean, 2) for mean in means],
            "last_per_seed": last,
        }
    write(result, output / "result.json")
    show(result, output)


def show(result, place):
    tables = accuracy.cifar10_accuracy(result)
    say(result["command"], __doc__.splitlines()[0], tables=tables)
    with as_folders(place) as runs:
        compare = nobn.training.report(runs).to_dict()
    title = "CIFAR-10, ReActNet-18 of width 16, published recipe"
    plots.curves(place / "result.png", title, grids.curve_panels(compare))


if __name__ == "__main__":
    main()
