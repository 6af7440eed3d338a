"""How large latent kernels are at the start, and where the norm stands.

ReActNet-18 of width 16 on CIFAR-10, two epochs, as tuning.py chose for each method: the
same with latent kernels 30 times as large before the first step; with norms in
branches only, none behind the stem and the projections of the shortcuts; and with both,
where each is a point and a half better. A change that is has a second seed, and so has
the method as chosen. Trained on 45,000 of the training images and measured on the other
5,000. What has its log in `--output` is not repeated; the same command given twice
shares the work.

    python benchmarks/init_and_placement.py --folder runs/init_and_placement
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path

import larq_nobn as nobn
import click
from _drawing.tuning import chosen, init_and_placement
from _held_out import HELD_OUT, split
from _results import RESULTS, command, machine, versions, write, write_log
from _runs import KERNELS, accuracy, norms_in
from tuning import CLOSE, SEEDS, settings

SCALE = 30.0
UNPLACED = ("none", "nobn", "independent_component", "kalman")
# Behind a convolution; the others have nothing there.
PLACED = [n for n in nobn.models.NORMALIZATIONS if n not in UNPLACED]
CHANGES = {
    "branches": PLACED,
    "latents": [*nobn.models.NORMALIZATIONS, *KERNELS],
    "both": PLACED,
}


def measured(folder, output, images, method, change, seed, form, rate):
    """The accuracy of a run; without images only what is there."""
    run = folder / f"{method}-{change}-{seed}"
    given = settings(method, form, rate, seed)
    if change in ("latents", "both"):
        given = dataclasses.replace(given, latent_scale=SCALE)
    with norms_in(branches=change in ("branches", "both")):
        return accuracy(given, run, output, images)


def better(row):
    """The changes whose first seed is ahead of the method as chosen."""
    usual = min(row["chosen"][0], statistics.mean(row["chosen"]))
    return [c for c in CHANGES if c in row and row[c][0] > usual + CLOSE]


def trained(row, change, seed):
    """Whether a run is due, by those before it."""
    if change == "chosen":
        return bool(better(row))
    if seed != SEEDS[0]:
        return change in better(row)
    return change != "both" or {"branches", "latents"} <= set(better(row))


@click.command()
@click.option("--only", default="", help="Methods between commas; all if empty.")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option("--train/--no-train", default=True, help="Or only what is finished.")
@click.option(
    "--output", type=Path, default=RESULTS / "init_and_placement", show_default=True
)
def main(only, folder, train, output):
    images = split() if train else None
    known = (RESULTS / "tuning" / "result.json").read_text(encoding="utf-8")
    best = {name: chosen(of) for name, of in json.loads(known)["accuracies"].items()}
    rows = {name: {"chosen": [*best[name]["reached"]]} for name in CHANGES["latents"]}
    for seed in SEEDS:
        for change, methods in {**CHANGES, "chosen": list(rows)}.items():
            for name in methods:
                row = rows[name]
                if change == "chosen" and len(row["chosen"]) > SEEDS.index(seed):
                    continue
                due = trained(row, change, seed) and name in (only or name).split(",")
                candidate = best[name]["form"], best[name]["learning_rate"]
                given = images if due else None
                last = measured(folder, output, given, name, change, seed, *candidate)
                if last is not None:
                    row.setdefault(change, []).append(last)
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "held_out": HELD_OUT,
        "seeds": SEEDS,
        "rows": rows,
    }
    write(result, output / "result.json")
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(output, *said, tables=init_and_placement(result))


if __name__ == "__main__":
    main()
