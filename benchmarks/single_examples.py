"""What else may hold norms back that look at one example, on held-out images.

ReActNet-18 of width 16 on CIFAR-10, two epochs in float32 at learning rate 0.003, with
centred kernels, calibrated, as in tuning.py, which has the same without a change: other
steps; norms in branches only, none behind the stem and the projections of the
shortcuts, with crops from black and from mirrored borders; and these without any norm,
where no border takes part in statistics. Trained on 45,000 of the training images and
measured on the other 5,000. The same command given twice shares the work.

    python benchmarks/single_examples.py --folder runs/single_examples
"""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import click
from _drawing import single
from _held_out import HELD_OUT, split
from _results import RESULTS, command, machine, versions, write, write_log
from _runs import history, norms_in

# Candidates and their settings; "branches" have no norm elsewhere.
BRANCHES = {"branches": {}, "branches_mirrored": {"reflect": True}}
STEPS = {
    "clip_0.08": {"clip_factor": 0.08},
    "unclipped": {"clip_factor": 0.0},
    "nobn_steps": {"beta_2": 0.99, "shift_multiplier": 4.0},
}
CANDIDATES = {
    "none": {"mirrored": {"reflect": True}},
    "group": {**STEPS, **BRANCHES},
    "filter_response": BRANCHES,
    "proxy": BRANCHES,
    "evonorm": BRANCHES,
}
SEED = 100


def trained(method, name, folder, output, images):
    """The epochs of a run; None if they are not there."""
    run = folder / f"{method}-{name}-{SEED}"
    settings = nobn.training.RunSettings.from_recipe(
        "plain",
        normalization=method,
        width=16,
        epochs=2,
        learning_rate=3e-3,
        calibrate=True,
        kernel="scaled_std_sign",
        seed=SEED,
        **CANDIDATES[method][name],
    )
    with norms_in(branches=name.startswith("branches")):
        train = images is not None
        return history(settings, run, output / run.name, train, lambda: images)


@click.command()
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option("--train/--no-train", default=True, help="Or only what is finished.")
@click.option(
    "--output", type=Path, default=RESULTS / "single_examples", show_default=True
)
def main(folder, train, output):
    images = split() if train else None
    rows = {}
    for method, candidates in CANDIDATES.items():
        for name in candidates:
            found = trained(method, name, folder, output, images)
            if found is not None:
                last = {key: found[-1][key] for key in ("val_accuracy", "val_loss")}
                rows.setdefault(method, {})[name] = last
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
    write_log(output, *said, tables=single.single_examples(result))


if __name__ == "__main__":
    main()
