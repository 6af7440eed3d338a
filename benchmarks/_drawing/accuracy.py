"""Accuracies over seeds: by the recipe plain, of every normalization, after surgery."""

from __future__ import annotations

import statistics
from collections import defaultdict

from .markdown import spread, table

# Titles of what accelerator.py trains, by the names of the runs.
LARGER = {
    "w16-100": "CIFAR-10, width 16, 100 epochs",
    "w32-30": "CIFAR-10, width 32, 30 epochs",
    "w64-30+30": "CIFAR-10, width 64, two stages of 30 epochs",
    "w32-c100-30": "CIFAR-100, width 32, 30 epochs",
}


BOTH = ("nobn", "batch_norm")
LOSSES = [f"loss, `{name}`" for name in BOTH]


def larger(kept):
    head = ["", "`nobn`", "`batch_norm`", "difference", *LOSSES]
    return table(head, larger_rows(kept))


def larger_rows(kept):
    """Title, both accuracies in %, the lead of `nobn` in points, and both losses."""
    rows = []
    for cell, title in LARGER.items():
        accuracies = [
            [100 * each for each in of_runs(kept, f"{name}-{cell}", "val_accuracy")]
            for name in BOTH
        ]
        losses = [of_runs(kept, f"{name}-{cell}", "val_loss") for name in BOTH]
        one, other = map(statistics.mean, accuracies)
        lead = f"{one - other:+.1f}"
        rows.append([title, *map(seeds, accuracies), lead, *map(mean_loss, losses)])
    return rows


def of_runs(kept, cell, metric):
    """A metric of the runs of a cell, a number for each seed."""
    runs = kept["runs"].items()
    return [
        run["metrics"][metric] for key, run in runs if key.rpartition("-")[0] == cell
    ]


def mean_loss(values):
    return f"{statistics.mean(values):.3f}"


# Titles of the search on the same GPU, by what follows in the names of the runs.
SEARCHED = {
    "": "recipe",
    "_smoothing": "label smoothing 0.1",
    "_distillation": "distillation",
    "_latents_30": "initial latent weights 30 times as large",
    "_late_penalty_0.01": "late penalty 0.01",
    "_biper": "BiPer kernels",
    "_strong": "strong augmentation",
}


def searched(kept):
    """A row for each change, a column for each normalization that has it."""
    found = defaultdict(list)
    for key, run in kept["runs"].items():
        found[key.rpartition("-")[0]].append(run["metrics"])
    columns = ["`nobn`", "training loss", "`batch_norm`", "training loss"]
    return table(
        ["", *columns],
        [[title, *searched_cells(found, change)] for change, title in SEARCHED.items()],
    )


def searched_cells(found, change):
    for name in ("nobn", "batch_norm"):
        runs = found[name + change]
        accuracies = [100 * metrics["val_accuracy"] for metrics in runs]
        yield seeds(accuracies) if runs else "-"
        losses = [metrics["loss"] for metrics in runs]
        yield f"{statistics.mean(losses):.3f}" if runs else "-"


def seeds(values):
    return spread(values) if len(values) > 1 else f"{values[0]:.1f} (1 seed)"


def width_64_lead(kept):
    return larger_rows(kept)[2][3].lstrip("+")


def normalizations(result):
    return table(
        [
            "",
            *result["tasks"],
            "time",
            "memory",
            "float operations",
            "constant",
        ],
        [
            [
                f"`{name}`",
                *(spread(each) for each in row["accuracy"].values()),
                *costs(row),
                f"{row['stuck_channels']:.0%}",
            ]
            for name, row in result["rows"].items()
        ],
    )


def costs(row, digits=2):
    operations = f"{sum(row['float_ops'].values())} ({row['extra_float_ops']:+d})"
    ratios = (f"{row[name]:.{digits}f}" for name in ("time_ratio", "memory_ratio"))
    return *ratios, operations


def small_batches(result):
    """A row for each stream of batches, a column for each normalization.

    The logs call reflection padding "mirrored".
    """
    rows = result["rows"]
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    return table(
        ["batch size", *(f"`{name}`" for name in names)],
        [
            [
                stream.replace("mirrored", "reflection padding"),
                *(
                    seeds(row[name]["reached"]) if name in row else "-"
                    for name in names
                ),
            ]
            for stream, row in rows.items()
        ],
    )


# Titles of the sets of few images, by their names.
FEW = {
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny ImageNet",
    "cifar10": "CIFAR-10",
}


def few_images(result, metric="tested"):
    """Of test images, in %: a row for each set, a column for each way to train."""
    found = defaultdict(lambda: defaultdict(list))
    for run, metrics in result["runs"].items():
        name, images, size, *_, seed = run.split(", ")
        if seed != "100" and metric in metrics:  # that seed chose
            found[int(size), images][name].append(metrics[metric])
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    return table(
        ["six classes of", "images", *(f"`{name}`" for name in names)],
        [
            [
                FEW[images],
                f"{6 * size:,}",
                *(seeds(row[name]) if name in row else "-" for name in names),
            ]
            for size in (48, 333)
            for images in FEW
            if (row := found.get((size, images)))
        ],
    )


def few_image_calibration(result):
    return few_images(result, "calibration_error")


def few_image_choices(result):
    """A row for each learning rate and factor of the initial latent weights."""
    columns, runs = result["choices"], result["runs"]
    head = ["learning rate", "latent weights"]
    for name in columns:
        head += [f"`{name}`", "first loss", "last loss"]
    rows = []
    for pair in next(iter(columns.values())):
        rate, factor = pair.split(", ")
        row = [rate, "as built" if factor == "1" else f"times {factor}"]
        for name, found in columns.items():
            best = pair == max(found, key=found.get)
            losses = runs[f"{name}, cifar100, 48, {pair}, 100"]["loss"]
            shown = f"{found[pair]:.1f}"
            row += [f"**{shown}**" if best else shown]
            row += [f"{losses[place]:.2f}" for place in (0, -1)]
        rows.append(row)
    return table(head, rows)


def ordinary(result):
    """Size and test accuracy in % of each file, a row for each width and budget."""
    found = defaultdict(list)
    for cell, row in result["rows"].items():
        width, epochs, _ = map(int, cell.split("-"))
        found[epochs, width].append(row)
    return table(
        ["epochs", "width", "float32, kB", "accuracy", "int8, kB", "accuracy"],
        [
            [
                *cell,
                *(part for form in ("float32", "int8") for part in of_form(form, rows)),
            ]
            for cell, rows in sorted(found.items())
        ],
    )


def of_form(form, rows):
    yield f"{rows[0][form]['bytes'] / 1000:.0f}"
    yield seeds([row[form]["accuracy"] for row in rows])


def ordinary_latency(result):
    return table(
        ["file", "kB", "ms"],
        [
            [name, f"{row['bytes'] / 1000:.0f}", f"{row['ms']:.2f}"]
            for name, row in result["rows"].items()
        ],
    )
