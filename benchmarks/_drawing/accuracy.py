"""Accuracies over seeds: by the recipe plain, of every normalization, after surgery."""

from __future__ import annotations

import statistics
from collections import defaultdict

from .grids import accuracy, of_cells
from .markdown import coded, described, number, spread, table

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
    for cell, title in LARGER.items():
        one, other = (of_runs(kept, f"{name}-{cell}") for name in BOTH)
        lead = statistics.mean(one["accuracy"]) - statistics.mean(other["accuracy"])
        accuracies = (seeds(of["accuracy"]) for of in (one, other))
        losses = (f"{statistics.mean(of['val_loss']):.3f}" for of in (one, other))
        yield [title, *accuracies, f"{lead:+.1f}", *losses]


def width_64_lead(kept):
    return list(larger_rows(kept))[2][3].lstrip("+")


def of_runs(kept, cell):
    """Metrics of the runs of a cell, a number for each seed; accuracies in %."""
    found = defaultdict(list)
    for key, run in kept["runs"].items():
        if key.rpartition("-")[0] == cell:
            found["accuracy"].append(100 * run["metrics"]["val_accuracy"])
            for name in ("loss", "val_loss"):
                found[name].append(run["metrics"].get(name))
    return found


# Titles of the search on the same GPU, by what follows in the names of the runs.
SEARCHED = {
    "recipe": "",
    "label smoothing 0.1": "_smoothing",
    "distillation": "_distillation",
    "initial latent weights 30 times as large": "_latents_30",
    "late penalty 0.01": "_late_penalty_0.01",
    "BiPer kernels": "_biper",
    "strong augmentation": "_strong",
}


def long_recipe_gpu(kept):
    """A row for each change, a column for each normalization that has it."""

    def cells(change):
        for name in BOTH:
            found = of_runs(kept, name + change)
            yield seeds(found["accuracy"]) if found else "-"
            yield f"{statistics.mean(found['loss']):.3f}" if found else "-"

    columns = ["`nobn`", "training loss", "`batch_norm`", "training loss"]
    rows = [[title, *cells(change)] for title, change in SEARCHED.items()]
    return table(["", *columns], rows)


def seeds(values):
    return spread(values) if len(values) > 1 else f"{values[0]:.1f} (1 seed)"


def costs(digits):
    def operations(row):
        return f"{sum(row['float_ops'].values())} ({row['extra_float_ops']:+d})"

    ratio = f"{{:.{digits}f}}"
    return {
        "time": number("time_ratio", ratio),
        "memory": number("memory_ratio", ratio),
        "float operations": operations,
    }


def normalizations(result):
    accuracies = {
        task: lambda row, task=task: spread(row["accuracy"][task])
        for task in result["tasks"]
    }
    constant = {"constant": number("stuck_channels", "{:.0%}")}
    columns = {**accuracies, **costs(digits=2), **constant}
    return described(coded(result["rows"]), columns)


# What a normalization takes its statistics from, in training.
LOOKS_AT = {
    **dict.fromkeys(("none", "nobn", "dynamic_tanh"), "nothing"),
    **dict.fromkeys(("filter_response", "proxy", "group", "evonorm"), "one example"),
    **dict.fromkeys(("batch_norm", "independent_component"), "the batch"),
    "kalman": "the batch and a prior",
}


def choosing(result, methods):
    """Accuracy of each by its own recipe, and its costs, the most accurate first."""
    groups = of_cells(methods)
    names = sorted(
        result["rows"],
        key=lambda name: -groups[name]["metrics"]["val_accuracy"]["mean"],
    )
    rows = {name: {"name": name, **result["rows"][name]} for name in names}
    columns = {
        "accuracy": lambda row: accuracy(groups[row["name"]], alone=False),
        "statistics of": lambda row: LOOKS_AT[row["name"]],
        # With the digits that another setup would confirm: see `train_step`.
        **costs(digits=1),
    }
    return described(coded(rows), columns)


def small_batches(result):
    """A row for each stream of batches, a column for each normalization.

    The logs call reflection padding "mirrored".
    """
    rows = {
        stream.replace("mirrored", "reflection padding"): {
            name: found["reached"] for name, found in row.items()
        }
        for stream, row in result["rows"].items()
    }
    return over_seeds(rows, "batch size")


def over_seeds(rows, *corner):
    """A table of the values of each seed; names of rows are those of several cells."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    return table(
        [*corner, *(f"`{name}`" for name in names)],
        [
            [
                *([title] if isinstance(title, str) else title),
                *(seeds(row[name]) if name in row else "-" for name in names),
            ]
            for title, row in rows.items()
        ],
    )


# Titles of the sets of few images, by their names.
FEW = {
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny ImageNet",
    "cifar10": "CIFAR-10",
}


# The sets of fine_tuning.py.
TUNED = {"cifar10": "CIFAR-10", "things": "six things", "kinds": "eight kinds"}


def few_images(result):
    """Of test images, in %: a row for each set, a column for each way to train."""
    found = defaultdict(lambda: defaultdict(list))
    for run, metrics in result["runs"].items():
        name, images, size, *_, seed = run.split(", ")
        if seed != "100":  # that seed chose
            row = int(size), list(FEW).index(images)
            found[row][name].append(metrics["tested"])
    rows = {
        (list(FEW.values())[place], f"{6 * size:,}"): row
        for (size, place), row in sorted(found.items())
    }
    return over_seeds(rows, "six classes of", "images")


def fine_tuning(result):
    """In %: a row for each recipe, a column for each set, and of these the mean."""
    found = defaultdict(lambda: defaultdict(list))
    for run, record in result["runs"].items():
        label, images, _ = run.rsplit("-", 2)
        found[label.replace("_", " ")][images].append(record["metrics"])

    def cells(row):
        for metric in ("val_accuracy", "accuracy", "test_calibration_error"):
            each = [[100 * run[metric] for run in runs] for runs in row.values()]
            if metric == "val_accuracy":
                yield from (seeds(values) for values in each)
            means = map(statistics.mean, each)
            yield f"{statistics.mean(means):.1f}"

    sets = list(TUNED)
    rows = {
        label: [*cells({name: row[name] for name in sets})]
        for label, row in found.items()
        if len(row) == len(sets)
    }
    head = [
        "recipe",
        *TUNED.values(),
        "mean",
        "of training images",
        "calibration error",
    ]
    ordered = sorted(rows.items(), key=lambda row: -float(row[1][len(sets)]))
    return table(head, [[label, *row] for label, row in ordered])


def ordinary(result):
    """Size and test accuracy in % of each file, a row for each width and budget."""
    found = defaultdict(list)
    for cell, row in result["rows"].items():
        width, epochs, _ = map(int, cell.split("-"))
        found[epochs, width].append(row)

    def cells(rows):
        for form in ("float32", "int8"):
            yield f"{rows[0][form]['bytes'] / 1000:.0f}"
            yield seeds([row[form]["accuracy"] for row in rows])

    return table(
        ["epochs", "width", "float32, kB", "accuracy", "int8, kB", "accuracy"],
        [[*cell, *cells(rows)] for cell, rows in sorted(found.items())],
    )


def ordinary_latency(result):
    columns = {"kB": number("bytes", "{:.0f}", 1e-3), "ms": number("ms", "{:.2f}")}
    return described(result["rows"], columns, "file")


# The rows of dense_prediction.py in words.
RESTORED = {
    "shortcuts": "without its binary convolutions",
    "nobn": "without batch norm, `SkipInit`",
    "batch_norm": "batch norm, γ starts at 0",
    "ones": "batch norm, γ starts at 1",
}


def dense_prediction(result):
    """Test PSNR in dB, and what the search chose for each form."""
    rows = {"noisy": {"psnr": [result["noisy"]]}}
    rows |= {title: result["rows"][form] for form, title in RESTORED.items()}

    def psnr(key):
        def cell(row):
            return decibels(row[key]) if row.get(key) else "-"

        return cell

    columns = {
        "PSNR": psnr("psnr"),
        "trained in colored light": psnr("colored"),
        "by batch statistics": psnr("batch_statistics"),
        "learning rate": number("rate", "{:g}"),
        "clipping": lambda row: row.get("clip") or "-",
    }
    return described(rows, columns)


def decibels(values):
    mean = f"{statistics.mean(values):.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.2f} to {max(values):.2f})"


def dense_prediction_files(result):
    columns = {
        "kB": number("bytes", "{:,.0f}", 1e-3),
        "binary layers": number("binary"),
        "with kernels of one bit": number("binary_kernels"),
        "float operations": number("float_ops"),
        "equal, %": number("exact_share", "{:.0f}", 100),
    }
    titles = {"lce": "LCE", "litert": "LiteRT", "c": "C"}
    rows = {titles[name]: row for name, row in result["files"].items()}
    return described(rows, columns, "for")
