"""Grids of runs, from the compare.json that benchmarks/experiments.py writes."""

from __future__ import annotations

from pathlib import PurePath

from .markdown import described, table

NORMALIZATIONS = ("nobn", "batch_norm", "none")


def by_epochs(compare):
    """The groups of each normalization, by epochs."""
    found = {}
    for group in compare["groups"]:
        settings = {**compare["shared"], **group["settings"]}
        found.setdefault(settings["epochs"], {})[settings["normalization"]] = group
    return dict(sorted(found.items()))


def budgets(compare):
    """Accuracies in % and losses, of epochs by rows and normalizations by columns."""
    rows, columns = by_epochs(compare), {}
    names = [n for n in NORMALIZATIONS if any(n in row for row in rows.values())]
    for name in names:
        columns[f"`{name}`"] = lambda row, n=name: accuracy(row.get(n), alone=False)
    for name in names:
        columns[f"loss, `{name}`"] = lambda row, n=name: loss(row.get(n))
    return described(rows, columns, "epochs")


def accuracy(group, alone, metric="val_accuracy"):
    """A metric of a group in %; how many seeds, where others have more than one."""
    if group is None:
        return "-"
    low, mean, high = low_to_high(group["metrics"][metric])
    if len(group["seeds"]) > 1:
        return f"{mean:.1f} ({low:.1f} to {high:.1f})"
    return f"{mean:.1f}" if alone else f"{mean:.1f} (1 seed)"


def mean_of(group, metric):
    return group["metrics"][metric]["mean"]


def loss(group, metric="val_loss"):
    """The mean loss on the same images, or on others."""
    return "-" if group is None else f"{mean_of(group, metric):.3f}"


def calibration(compare):
    """Accuracy and expected calibration error in %, and loss, on test images."""
    groups = {g["settings"]["normalization"]: g for g in compare["groups"]}
    columns = {
        "accuracy": lambda group: accuracy(group, alone=False),
        "loss": loss,
        "calibration error": lambda group: accuracy(
            group, alone=False, metric="test_calibration_error"
        ),
    }
    rows = {f"`{n}`": groups[n] for n in NORMALIZATIONS if n in groups}
    return described(rows, columns)


def low_to_high(measured):
    """In %."""
    return tuple(100 * measured[name] for name in ("min", "mean", "max"))


# The cells of the experiment `screen`, after the control.
SCREEN = {
    "control": "the recipes as they are",
    "batch_64": "batches of 64",
    "batch_32": "batches of 32",
    "real_projections": "real-valued 1x1 projections",
    "measured_variances": "measured variances",
    "decay_5": "latent weights forget in 5 epochs",
    "decay_20": "latent weights forget in 20 epochs",
    "stochastic_depth": "stochastic depth 0.1",
    "silent_decay": "decay of silent weights",
    "lower_factor": "smallest gradient 0.004",
    "rate_0.006": "learning rate 0.006",
    "cosine": "cosine schedule",
    "latents_30": "initial latent weights 30 times as large",
}


def screen(result):
    """Accuracy in % on the validation split, and what a lever adds to each network."""
    found = {}
    for run, record in result["runs"].items():
        lever, name, _ = run.split("-")
        found[name, lever] = 100 * record["metrics"]["val_accuracy"]
    names, rows = ("nobn", "batch_norm"), []
    for lever, label in SCREEN.items():
        if all((name, lever) in found for name in names):
            reached = [found[name, lever] for name in names]
            gains = [found[n, lever] - found[n, "control"] for n in names]
            rows.append([label, *(f"{x:.1f}" for x in reached)])
            rows[-1] += [f"{x:+.1f}" for x in (*gains, gains[0] - gains[1])]
    head = [
        "`nobn`",
        "`batch_norm`",
        "gain, `nobn`",
        "gain, `batch_norm`",
        "difference",
    ]
    return table(["", *head], rows)


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
    """The groups by the names of their cells."""
    return {
        PurePath(group["runs"][0]).name.rpartition("-")[0]: group
        for group in compare["groups"]
    }


def levers(compare):
    """A row for each cell of one seed, and how far it is from the first of them."""
    groups = of_cells(compare)
    rows = [
        [title, accuracy(groups[name], alone=True), lead(compare, name, "all", "+")]
        for name, title in LEVERS.items()
        if name in groups
    ]
    rows[0][-1] = ""
    return table(["", "accuracy", "change"], rows)


def methods(compare):
    """A row for each normalization or kernel quantizer, the most accurate first."""
    groups = of_cells(compare)
    alone = all(len(group["seeds"]) == 1 for group in groups.values())
    columns = {
        "accuracy": lambda group: accuracy(group, alone),
        "training loss": lambda group: loss(group, "loss"),
    }
    names = sorted(groups, key=lambda name: -mean_of(groups[name], "val_accuracy"))
    return described({f"`{name}`": groups[name] for name in names}, columns)


def bfloat16(compare, in_float32):
    """The recipe nobn in 16 bits, and beside it the same in 32."""
    kinds = {"`mixed_bfloat16`": compare, "`float32`": in_float32}
    found = {kind: by_epochs(each) for kind, each in kinds.items()}
    columns = {}
    for kind, groups in found.items():
        columns[kind] = lambda n, groups=groups: accuracy(groups[n]["nobn"], False)
    for kind, groups in found.items():
        title = f"{kind}, training loss"
        columns[title] = lambda n, groups=groups: loss(groups[n]["nobn"], "loss")
    return described({n: n for n in by_epochs(compare)}, columns, "epochs")


def calibration_gain(compare):
    return lead(compare, "all", "not_calibrated")


def clipping_gain(compare):
    return lead(compare, "all", "no_clipping")


def cifar10_accuracy(compare):
    return methods(compare)


def plain_gap(compare):
    return lead(compare, "batch_norm", "nobn")


def lead(compare, one, other, sign=""):
    """By how many points the first of two cells is ahead."""
    groups = of_cells(compare)
    one, other = (mean_of(groups[name], "val_accuracy") for name in (one, other))
    return f"{100 * (one - other):{sign}.1f}"
