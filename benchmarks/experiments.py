"""Grids of training runs: what training without batch norm reaches.

Each experiment is a list of cells, one training run each, of ReActNet-18 on CIFAR-10
unless it says otherwise. Settings and metrics of every cell are kept in
results/EXPERIMENT/runs.json and its epochs in curves.csv, beside JSON and plot of all;
a cell that is there is not repeated, and one that was stopped is resumed.

    python benchmarks/experiments.py budgets --folder runs/evidence
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import larq_nobn as nobn
import click
from _drawing import grids
from _levers import LEVERS as LEVERS_OF_NETWORKS
from _results import RESULTS, command, machine, say, seeds, write_text
from _runs import as_folders, history, logged

MAIN = ("nobn", "batch_norm", "none")
FIVE_EPOCHS = {"epochs": 5, "precision": "float32"}


def settings(normalization="nobn", recipe=None, **chosen):
    """Width 16 and 16-bit floats, which two processor cores manage."""
    chosen = {"width": 16, "precision": "mixed_bfloat16", **chosen}
    return nobn.training.RunSettings.from_recipe(
        recipe, normalization=normalization, **chosen
    )


def budgets(seed):
    """Five to thirty epochs in float32, each normalization by its own recipe.

    Over thirty epochs at 0.005, which is better for both (`results/halving/`).
    """
    for epochs, rate in {5: 3e-3, 10: 3e-3, 30: 5e-3}.items():
        chosen = {"epochs": epochs, "learning_rate": rate, "precision": "float32"}
        for name in MAIN:
            yield f"{name}-{epochs}-{seed}", settings(name, seed=seed, **chosen)


def calibration(seed):
    """Five epochs once more, for the calibration error of the saved weights."""
    for name in ("nobn", "batch_norm"):
        yield f"{name}-5-{seed}", settings(name, seed=seed, **FIVE_EPOCHS)


def bfloat16(seed):
    """Ten and thirty epochs of the recipe nobn in bfloat16, as in `budgets`."""
    for epochs, rate in {10: 3e-3, 30: 5e-3}.items():
        chosen = {"epochs": epochs, "learning_rate": rate, "seed": seed}
        yield f"nobn-{epochs}-{seed}", settings(**chosen)


LEVERS = {
    "all": {},
    "not_calibrated": {"calibrate": False},
    "no_multiplier": {"shift_multiplier": 1.0},
    "mean_centred": {"network": {"balanced": False}},
    "mean_magnitude": {"network": {"variance_preserving": False}},
    "alpha_0.2_vita": {"network": {"alpha": 0.2, "variance_rule": "vita"}},
    "rate_0.001": {"learning_rate": 1e-3},
    "no_clipping": {"clip_factor": 0.0},
    "sigmoid_estimator": {"network": {"estimator": "sigmoid_sign"}},
    "latents_30": {"latent_scale": 30.0},
    "published": {"recipe": "plain"},
    "twice_as_long": {"epochs": 2},
    "two_stages": {"recipe": "two_stage"},
    "distillation": {"recipe": "distillation"},
}


def levers(seed):
    """Half an epoch of the recipe nobn, and of it with one thing changed.

    Two stages take twice the steps, as twice_as_long does; the teacher is a
    float ResNet of as many epochs and channels.
    """
    for name, change in LEVERS.items():
        yield (
            f"{name}-{seed}",
            settings(**{"epochs": 1, "limit": 25_600, "seed": seed, **change}),
        )


_RATE = 3e-3
# The settings that each lever changes, for either normalization; what builds another
# network is in _levers.py. Rates fall with the square root of the batch size, as the
# noise of Adam's steps does; decays forget in 5 and 20 epochs.
SCREENED = {
    "control": {},
    "batch_64": {"batch_size": 64, "learning_rate": _RATE / 2**0.5},
    "batch_32": {"batch_size": 32, "learning_rate": _RATE / 2},
    "real_projections": {},
    "measured_variances": {},
    "decay_5": {"optimizer": "adamw", "weight_decay": 0.38},
    "decay_20": {"optimizer": "adamw", "weight_decay": 0.095},
    "stochastic_depth": {"stochastic_depth": 0.1},
    "silent_decay": {"silent_decay": 9e-4},
    "lower_factor": {"lower_factor": 4e-3, "clip_factor": 0.02},
    "rate_0.006": {"learning_rate": 2 * _RATE},
    "cosine": {"schedule": "cosine"},
    "latents_30": {"latent_scale": 30.0},
}


def screen(seed):
    """Five epochs of nobn and batch norm with one lever each, on a validation split."""
    for lever, change in SCREENED.items():
        for name in ("nobn", "batch_norm"):
            chosen = {"epochs": 5, "validation": 0.1, "learning_rate": _RATE, **change}
            chosen["label"] = f"{lever}-{name}"  # not all levers are settings
            yield f"{lever}-{name}-{seed}", settings(name, seed=seed, **chosen)


def methods(seed):
    """Five epochs of every normalization, each by its own recipe.

    In float32, which is the faster one on processors without 16-bit floats.
    """
    for name in nobn.models.NORMALIZATIONS:
        yield f"{name}-{seed}", settings(name, seed=seed, **FIVE_EPOCHS)


def cifar10_accuracy(seed):
    """Five epochs by the published recipe, which is `plain`."""
    for name in MAIN:
        yield f"{name}-{seed}", settings(name, "plain", seed=seed, **FIVE_EPOCHS)


EXPERIMENTS = {
    each.__name__: each
    for each in (
        budgets,
        calibration,
        bfloat16,
        levers,
        screen,
        methods,
        cifar10_accuracy,
    )
}
# Where every setting that differs would take a column, and the others; see `grids`.
TABLES = {
    "budgets": grids.budgets,
    "calibration": grids.calibration,
    "bfloat16": grids.budgets,
    "levers": grids.levers,
}


@click.command()
@click.argument("experiment", type=click.Choice(list(EXPERIMENTS)))
@seeds()
@click.option("--only", default="", help="Cells whose name starts so.")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option("--output", type=Path, default=RESULTS, show_default=True)
def main(experiment, seeds, only, folder, output):
    kept, cells = output / experiment, EXPERIMENTS[experiment]
    for name, chosen in (cell for seed in seeds for cell in cells(seed)):
        if name.startswith(only):
            run, lever = folder / experiment / name, name.split("-")[0]
            change = LEVERS_OF_NETWORKS.get(lever, nullcontext)
            found = history(chosen, run, kept / name, around=change)
            print(name, *(f"{100 * row['val_accuracy']:.1f}" for row in found))
    with as_folders(kept) as runs:
        found = nobn.training.report(runs).to_dict()
        for each in (*found["groups"], *found["runs"]):
            each["metrics"] = logged(each["metrics"]) | each["metrics"]
        for group in found["groups"]:
            group["val_accuracy"] = logged(group)["val_accuracy"]
        for run in found["runs"]:
            run["history"] = [logged(row) for row in run["history"]]
        text = json.dumps(found, indent=2)
        text = text.replace(str(runs[0].parent), f"results/{experiment}")
    write_text(text + "\n", kept / "compare.json")
    tables = TABLES.get(experiment, grids.methods)(json.loads(text))
    say(command(), cells.__doc__.splitlines()[0], machine(), tables=tables)


if __name__ == "__main__":
    main()
