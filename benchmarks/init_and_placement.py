"""How large latent kernels are at the start, and where the norm stands.

ReActNet-18 of width 16 on CIFAR-10, two epochs, as tuning.py chose for each method: the
same with latent kernels 30 times as large before the first step, and with norms in
branches only, none behind the stem and the projections of the shortcuts. Trained on
45,000 of the training images and measured on the other 5,000. What has its log in
`--output` is not repeated; the same command given twice shares the work.

    python benchmarks/init_and_placement.py --folder runs/init_and_placement
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path

import larq_nobn as nobn
import click
from _drawing import tuning as drawing
from _held_out import HELD_OUT, split
from _results import RESULTS, command, machine, versions, write, write_log
from _runs import KERNELS, history, in_branches, reached
from tuning import settings

SCALE = 30.0
SEED = 100
UNPLACED = ("none", "nobn", "independent_component")
# Behind a convolution; the others have nothing there.
PLACED = [n for n in nobn.models.NORMALIZATIONS if n not in UNPLACED]
CHANGES = {
    "branches": PLACED,
    "latents": [*nobn.models.NORMALIZATIONS, *KERNELS],
}


def accuracy(folder, output, images, method, change, form, rate):
    """In % of the held-out images; None if it is not there."""
    run = folder / f"{method}-{change}-{SEED}"
    chosen = settings(method, form, rate, SEED)
    if change == "latents":
        chosen = dataclasses.replace(chosen, latent_scale=SCALE)
    with in_branches(method) if change == "branches" else nullcontext():
        train = images is not None
        found = history(chosen, run, output / run.name, train, lambda: images)
    if found is None:
        return None
    print(run.name, reached(found), flush=True)
    return reached(found)


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
    tuned = json.loads(known)["accuracies"]
    rows = {name: {} for name in CHANGES["latents"]}
    for change, methods in CHANGES.items():
        for name in methods:
            best = drawing.chosen(tuned[name])
            rows[name]["chosen"] = best["reached"][0]
            given = images if not only or name in only.split(",") else None
            candidate = change, best["form"], best["learning_rate"]
            last = accuracy(folder, output, given, name, *candidate)
            if last is not None:
                rows[name][change] = last
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "held_out": HELD_OUT,
        "seed": SEED,
        "rows": rows,
    }
    write(result, output / "result.json")
    said = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(output, *said, tables=drawing.init_and_placement(result))


if __name__ == "__main__":
    main()
