"""How each method trains best: its learning rate, and what it starts from.

ReActNet-18 of width 16 on CIFAR-10, two epochs, by the recipe `nobn` or `plain`, at
three learning rates: as built; calibrated; and with the centred kernels of
`ScaledStdSign`, calibrated too where no statistics of a batch are in between. Norms of
single examples also with these and crops from mirrored borders, which are black
otherwise; this in float32. Behind batch norm also every other kernel quantizer, at the
same rates, by `plain`; the one with a posterior also at larger rates of its own rule.
Norms stand behind the stem and the projections of the shortcuts too, of which
init_and_placement.py has the rest.
Trained on 45,000 of the training images and measured on the other 5,000; test images
have no part in it. What comes within a point and a half of the best is trained with a
second seed, and the mean decides. What has its log in `--output` is not repeated; the
same command given twice shares the work between two processes, of which the last to end
writes the whole table.

    python benchmarks/tuning.py --folder runs/tuning
"""

from __future__ import annotations

from pathlib import Path

import larq_nobn as nobn
import click
from _drawing import tuning
from _held_out import HELD_OUT, split
from _results import RESULTS, command, machine, versions, write, write_log
from _runs import KERNELS, accuracy, norms_in

RATES = (3e-3, 1e-3, 1e-2)
FORMS = ("as built", "calibrated", "centred", "mirrored")
CENTRED = FORMS[2:]
# Of kernels with a posterior, at the first learning rate.
NATURAL_RATES = {"natural_rate_300": 300.0, "natural_rate_1000": 1000.0}
NATURAL_RATE = nobn.training.Recipe.natural_learning_rate
SEEDS = (100, 101)
CLOSE = 1.5


def candidates(method):
    """Form and learning rate; what nobn starts from is its own."""
    forms = FORMS
    if method == "nobn":
        forms = ("calibrated",)
    elif method in KERNELS:
        forms = ("as built",)
    elif method in nobn.models.BATCH_STATISTICS:
        forms = ("as built", "centred")
    elif method == "none":  # for which single_examples.py has the last
        forms = FORMS[:3]
    natural = NATURAL_RATES if method == "bernoulli_sign" else ()
    return [
        *((form, rate) for form in forms for rate in RATES),
        *((form, RATES[0]) for form in natural),
    ]


def settings(method, form, rate, seed):
    """Those of a run, and with them what form means."""
    normalization = "batch_norm" if method in KERNELS else method
    batches = normalization in nobn.models.BATCH_STATISTICS
    kernel = method if method in KERNELS else None
    return nobn.training.RunSettings.from_recipe(
        "nobn" if normalization == "nobn" else "plain",
        normalization=normalization,
        width=16,
        precision="float32" if form == "mirrored" else "mixed_bfloat16",
        epochs=2,
        learning_rate=rate,
        calibrate=form != "as built" and not batches,
        natural_learning_rate=NATURAL_RATES.get(form, NATURAL_RATE),
        reflect=form == "mirrored",
        kernel="scaled_std_sign" if form in CENTRED else kernel,
        seed=seed,
    )


def measured(folder, output, images, method, form, rate, seed):
    """The accuracy of a run; without images only what is there."""
    short = "" if form == "as built" else f"-{form}"
    run = folder / f"{method}-{rate:g}{short}-{seed}"
    with norms_in(branches=False):
        return accuracy(settings(method, form, rate, seed), run, output, images)


def close(found):
    """The candidates that one seed does not tell from the best, if there are some."""
    first = {each: lasts[0] for each, lasts in found.items()}
    near = [each for each, last in first.items() if last > max(first.values()) - CLOSE]
    return near if len(near) > 1 else []


@click.command()
@click.option("--only", default="", help="Methods between commas; all if empty.")
@click.option("--folder", type=Path, required=True, help="Where the runs go.")
@click.option("--train/--no-train", default=True, help="Or only what is finished.")
@click.option("--output", type=Path, default=RESULTS / "tuning", show_default=True)
def main(only, folder, train, output):
    images = split() if train else None
    all_found = {name: {} for name in (*nobn.models.NORMALIZATIONS, *KERNELS)}
    chosen = only.split(",") if only else list(all_found)
    for seed in SEEDS:
        for name, found in all_found.items():
            trained = candidates(name) if seed == SEEDS[0] else close(found)
            for each in candidates(name):
                given = images if name in chosen and each in trained else None
                last = measured(folder, output, given, name, *each, seed)
                if last is not None:
                    found.setdefault(each, []).append(last)
    result = {
        "command": command(),
        "machine": machine(),
        "versions": versions(),
        "held_out": HELD_OUT,
        "seeds": SEEDS,
        "accuracies": {
            name: [
                {"form": form, "learning_rate": rate, "reached": lasts}
                for (form, rate), lasts in all_found[name].items()
            ]
            for name in all_found
        },
    }
    write(result, output / "result.json")
    show(result, output)


def show(result, place):
    lines = result["command"], __doc__.splitlines()[0], result["machine"]
    write_log(place, *lines, tables=tuning.tuning(result))


if __name__ == "__main__":
    main()
