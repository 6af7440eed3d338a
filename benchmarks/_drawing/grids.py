"""Grids of runs, from the compare.json that benchmarks/experiments.py writes."""

from __future__ import annotations

from pathlib import PurePath

from .markdown import table

NORMALIZATIONS = ("nobn", "batch_norm", "none", "group", "filter_response")


def budgets(compare):
    return crossed(compare, "epochs", "normalization", "epochs")


def crossed(compare, down, across, corner):
    """Accuracies in % and losses, of two settings: one by rows, one by columns."""
    groups = compare["groups"]
    found = {(setting(g, down), setting(g, across)): g for g in groups}
    rows, columns = (
        sorted({key[place] for key in found}, key=position) for place in (0, 1)
    )
    alone = all(len(group["seeds"]) == 1 for group in groups)
    names = [shown(c) for c in columns]
    return table(
        [corner, *names, *(f"loss, {name}" for name in names)],
        [
            [
                shown(r),
                *(accuracy(found.get((r, c)), alone) for c in columns),
                *(loss(found.get((r, c))) for c in columns),
            ]
            for r in rows
        ],
    )


def setting(group, name):
    """Its value; of a normalization also the recipe, where another one is usual."""
    value, recipe = group["settings"][name], group["settings"].get("recipe")
    borrowed = name == "normalization" and recipe == "nobn" != value
    return f"{value}, recipe nobn" if borrowed else value


def position(value):
    """Numbers by size, names in the order above."""
    if not isinstance(value, str):
        return value
    known = value in NORMALIZATIONS
    return NORMALIZATIONS.index(value) if known else len(NORMALIZATIONS)


def shown(value):
    return f"`{value}`" if isinstance(value, str) else f"{value:g}"


def accuracy(group, alone, metric="val_accuracy"):
    """A metric of a group in %; how many seeds, where others have more than one."""
    if group is None:
        return "-"
    low, mean, high = low_to_high(group["metrics"][metric])
    if len(group["seeds"]) > 1:
        return f"{mean:.1f} ({low:.1f} to {high:.1f})"
    return f"{mean:.1f}" if alone else f"{mean:.1f} (1 seed)"


def loss(group):
    """The mean loss on the same images."""
    return "-" if group is None else f"{group['metrics']['val_loss']['mean']:.3f}"


def calibrated(compare):
    """Accuracy and expected calibration error in %, and loss, on test images."""
    return table(
        ["", "accuracy", "loss", "calibration error"],
        [
            [
                shown(group["settings"]["normalization"]),
                accuracy(group, alone=False),
                loss(group),
                calibration(group),
            ]
            for group in sorted(compare["groups"], key=_by_normalization)
        ],
    )


def _by_normalization(group):
    return position(group["settings"]["normalization"])


def calibration(group):
    return accuracy(group, alone=False, metric="test_calibration_error")


def low_to_high(measured):
    """In %."""
    return tuple(100 * measured[name] for name in ("min", "mean", "max"))


# The cells of the experiment `levers`, of which the first is the measure of the others.
LEVERS = {
    "all": "recipe `nobn`",
    "not_calibrated": "without data-dependent initialization",
    "no_multiplier": "without learning-rate multiplier",
    "mean_centred": "filters centered on the mean, not the median",
    "mean_magnitude": "kernels scaled by their mean magnitude",
    "alpha_0.2_vita": "α 0.2 and the published variance rule",
    "rate_0.001": "learning rate 0.001",
    "no_clipping": "without gradient clipping",
    "sigmoid_estimator": "sigmoid pseudo-gradient",
    "latents_30": "initial latent weights 30 times as large",
    "published": "published recipe (`plain`)",
    "twice_as_long": "twice as many steps",
    "two_stages": "two stages, twice as many steps",
    "distillation": "a teacher",
}


def of_cells(compare):
    """The groups by the names of their cells, the levers in their order."""
    groups = {
        PurePath(group["runs"][0]).name.rpartition("-")[0]: group
        for group in compare["groups"]
    }
    names = sorted(groups, key=[*LEVERS, *groups].index)
    return {name: groups[name] for name in names}


def levers(compare):
    groups = of_cells(compare)
    alone = all(len(group["seeds"]) == 1 for group in groups.values())
    means = {n: 100 * g["metrics"]["val_accuracy"]["mean"] for n, g in groups.items()}
    measure = means.pop("all", None)
    change = (
        {} if measure is None else {n: f"{m - measure:+.1f}" for n, m in means.items()}
    )
    return table(
        ["", "accuracy", "change"],
        [
            [
                LEVERS[name],
                accuracy(group, alone),
                change.get(name, ""),
            ]
            for name, group in groups.items()
        ],
    )


# The cells of the experiment `saved_weights`, by what is added to `larq-nobn train`.
SAVED = {
    "last": "nothing",
    "ema": "`--ema 0.99`",
    "best": "`--keep best --monitor val_loss`",
    "patience": "`--keep best --monitor val_loss --patience 5`",
    "longer": "`--init` of the first, `--epochs 10`",
}


def saved_weights(stored):
    """A row for each option, of one seed."""
    shared, runs = stored["shared"], stored["runs"]
    rows = []
    for name, title in SAVED.items():
        run = {**shared, **runs[f"{name}-0"]}
        epochs = {**shared["settings"], **run["settings"]}["epochs"]
        metrics = run["metrics"]
        rows.append(
            [
                title,
                epochs,
                run["kept_epoch"],
                f"{metrics['val_loss']:.3f}",
                f"{metrics['test_loss']:.3f}",
                f"{100 * metrics['test_accuracy']:.1f}",
            ]
        )
    losses = ["validation loss", "test loss", "test accuracy"]
    return table(["added", "`--epochs`", "saved epoch", *losses], rows)


def methods(compare):
    """A row for each normalization or kernel quantizer, the most accurate first."""
    groups = of_cells(compare)
    alone = all(len(group["seeds"]) == 1 for group in groups.values())

    def mean(name, metric):
        return groups[name]["metrics"][metric]["mean"]

    return table(
        ["", "accuracy", "training loss"],
        [
            [f"`{name}`", accuracy(groups[name], alone), f"{mean(name, 'loss'):.3f}"]
            for name in sorted(groups, key=lambda name: -mean(name, "val_accuracy"))
        ],
    )


def bfloat16(compare, in_float32):
    """The recipe nobn in 16 bits, and beside it the same in 32."""
    both = [nobn_by_epochs(each) for each in (compare, in_float32)]
    names = ("`mixed_bfloat16`", "`float32`")
    return table(
        ["epochs", *names, *(f"{name}, training loss" for name in names)],
        [
            [
                str(epochs),
                *(accuracy(groups[epochs], alone=False) for groups in both),
                *(
                    f"{groups[epochs]['metrics']['loss']['mean']:.3f}"
                    for groups in both
                ),
            ]
            for epochs in sorted(both[0])
        ],
    )


def nobn_by_epochs(compare):
    settings = [{**compare["shared"], **g["settings"]} for g in compare["groups"]]
    return {
        of["epochs"]: group
        for of, group in zip(settings, compare["groups"], strict=True)
        if of["normalization"] == "nobn"
    }


def calibration_gain(compare):
    return lead(compare, "all", "not_calibrated")


def clipping_gain(compare):
    return lead(compare, "all", "no_clipping")


def plain_gap(compare):
    return lead(compare, "batch_norm", "nobn")


def lead(compare, *names):
    """By how many points the first of two cells is ahead."""
    groups = of_cells(compare)
    one, other = (
        100 * groups[name]["metrics"]["val_accuracy"]["mean"] for name in names
    )
    return f"{one - other:.1f}"
