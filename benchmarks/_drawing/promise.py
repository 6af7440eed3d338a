"""What the package promises, in one image of three panels."""

from __future__ import annotations

import statistics

from .accuracy import of_runs
from .grids import low_to_high

FILES = (
    "budgets/compare.json",
    "larger/runs.json",
    "small_batches/result.json",
    "deployment/result.json",
)
LONGEST, CELL = 100, "w16-100"
NETWORK = "ReActNet18"
NAMES = {"nobn": "larq_nobn", "batch_norm": "batch norm"}
# Okabe and Ito, as in the other images.
COLOURS = {"nobn": "#0072B2", "batch_norm": "#D55E00"}
MARKERS = {"nobn": "o", "batch_norm": "s"}


def found(budgets, larger, small_batches, deployment):
    """The numbers that are drawn."""
    curves, batches = ({name: {} for name in NAMES} for _ in range(2))
    for group in budgets["groups"]:
        settings = group["settings"]
        if (name := settings["normalization"]) in NAMES:
            reached = low_to_high(group["metrics"]["val_accuracy"])
            curves[name][settings["epochs"]] = reached
    for name, lengths in curves.items():
        last = [100 * x for x in of_runs(larger, f"{name}-{CELL}", "val_accuracy")]
        lengths[LONGEST] = min(last), statistics.mean(last), max(last)
    for stream, row in small_batches["rows"].items():
        for name in NAMES if stream.isdecimal() else ():
            batches[name][int(stream)] = statistics.mean(row[name]["reached"])
    row = deployment["rows"][NETWORK]["batch_norm"]
    operations = {kind: row[kind]["float_ops"] for kind in ("unprepared", "prepared")}
    return {"curves": curves, "batches": batches, "operations": operations}


def description(numbers):
    """The numbers in words, which the file contains for readers and for a test."""
    last = {name: points[LONGEST][1] for name, points in numbers["curves"].items()}
    alone = {name: sizes[1] for name, sizes in numbers["batches"].items()}
    operations = numbers["operations"]
    return (
        f"CIFAR-10 after {LONGEST} epochs: {last['nobn']:.1f} % without batch norm, "
        f"{last['batch_norm']:.1f} % with it. Half an epoch at batch size 1: "
        f"{alone['nobn']:.1f} % and {alone['batch_norm']:.1f} %. Float operations of a "
        f"ReActNet-18 in TFLite: {operations['prepared']} by convert, "
        f"{operations['unprepared']} by the converter alone."
    )


def draw(path, numbers):
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    accuracy, batches, operations = figure.subplots(1, 3, width_ratios=(5, 5, 4))
    draw_curves(accuracy, numbers["curves"])
    draw_batches(batches, numbers["batches"])
    draw_operations(operations, numbers["operations"])
    for axes in (accuracy, batches, operations):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontweight("bold")
    # Letters as outlines, and nothing that changes from one drawing to the next.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "promise"}):
        figure.savefig(
            path, metadata={"Date": None, "Description": description(numbers)}
        )


def draw_curves(axes, curves):
    for name, points in curves.items():
        epochs = sorted(points)
        low, mean, high = zip(*(points[length] for length in epochs), strict=True)
        axes.fill_between(
            epochs, low, high, color=COLOURS[name], alpha=0.2, linewidth=0
        )
        axes.plot(epochs, mean, color=COLOURS[name], marker=MARKERS[name], markersize=4)
    first = min(curves["nobn"])
    label(axes, (first, curves["nobn"][first][1] + 8.5), "nobn")
    label(axes, (first * 1.6, curves["batch_norm"][first][1] + 0.5), "batch_norm")
    axes.set_title("Accuracy")
    axes.set_xlabel("epochs of training")
    axes.set_ylabel("CIFAR-10 accuracy, %")
    axes.set_xscale("log")
    axes.set_xticks(epochs, epochs)
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def draw_batches(axes, batches):
    for name, sizes in batches.items():
        places = range(len(sizes))
        axes.plot(
            places,
            [sizes[size] for size in sorted(sizes)],
            color=COLOURS[name],
            marker=MARKERS[name],
        )
        axes.set_xticks(places, sorted(sizes))
    label(axes, (0, batches["nobn"][1] - 1.2), "nobn", va="top")
    label(axes, (0.25, batches["batch_norm"][1] + 0.5), "batch_norm", va="center")
    axes.set_title("Small batches")
    axes.set_xlabel("batch size")
    axes.set_ylabel("CIFAR-10 accuracy, %")
    axes.grid(alpha=0.3)


def draw_operations(axes, operations):
    names = {"unprepared": "LCE alone", "prepared": "convert"}
    colours = ("#999999", COLOURS["nobn"])
    counts = [operations[kind] for kind in names]
    bars = axes.bar(list(names.values()), counts, color=colours, width=0.6)
    axes.bar_label(bars, padding=2)
    axes.set_title("TFLite model")
    axes.set_ylabel("float operations")
    axes.set_xlabel("ReActNet-18")
    axes.margins(y=0.15)


def label(axes, place, name, **where):
    """A name beside its line, in its colour."""
    axes.annotate(NAMES[name], place, color=COLOURS[name], fontweight="bold", **where)
