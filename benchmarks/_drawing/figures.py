"""The figures of README and the guides, from the JSON files in results/."""

from __future__ import annotations

import statistics

from .accuracy import of_runs
from .grids import low_to_high, of_cells
from .steps import FORMS, STATES, STEPS, states

# Okabe and Ito: distinguished by colour-blind readers too.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
# The same, as light as a dark page needs them.
PALE = {BLUE: "#56B4E9", ORANGE: "#E9813B", GREEN: "#2CC79B", PINK: "#DE9CC2"}
COLOURS = (BLUE, ORANGE, GREEN, PINK)
MARKERS = "os^D"


class Sheet:
    """A figure for a light or for a dark page, with a transparent background."""

    def __init__(self, dark, width, height, columns=1, **kwargs):
        from matplotlib.figure import Figure  # slow, and the tables do without

        self.ink = "#e6e6ea" if dark else "#22242a"
        self.faint = "#5a5d68" if dark else "#c8cad2"
        self.dark = dark
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.figure.patch.set_alpha(0)
        self.places = list(self.figure.subplots(1, columns, squeeze=False, **kwargs)[0])
        for axes in self.places:
            axes.patch.set_alpha(0)
            axes.grid(color=self.faint, alpha=0.5, linewidth=0.6)
            axes.set_axisbelow(True)
            axes.tick_params(colors=self.ink, labelsize=11)
            for spine in axes.spines.values():
                spine.set_color(self.faint)
            axes.spines[["top", "right"]].set_visible(False)

    def colour(self, name):
        return PALE[name] if self.dark else name

    def label(self, axes, title="", x="", y=""):
        axes.set_title(title, color=self.ink, fontsize=12)
        axes.set_xlabel(x, color=self.ink, fontsize=11)
        axes.set_ylabel(y, color=self.ink, fontsize=11)

    def bars(self, axes, names, values, colours, texts, aside=0.0, height=0.7, to=None):
        """Horizontal bars, the first on top, each with its text after it, or `to`."""
        places = [place + aside for place in range(len(names))]
        axes.barh(places, values, height, color=colours)
        for place, value, text in zip(places, to or values, texts, strict=True):
            self.annotate(axes, text, (max(value, 0), place), (4, 0), va="center")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.18)

    def legend(self, *args, **kwargs):
        kwargs = {"fontsize": 11, "frameon": False, "labelcolor": self.ink} | kwargs
        self.figure.legend(*args, loc="outside lower center", **kwargs)

    def annotate(self, axes, text, point, shift=(6, 4), **kwargs):
        usual = {"textcoords": "offset points", "color": self.ink, "fontsize": 10}
        kwargs = usual | kwargs
        axes.annotate(text, point, shift, **kwargs)


def batch_norm(dark, result):
    """Pre-activations, layer by layer."""
    sheet = Sheet(dark, 7.4, 4, columns=2)
    panels = {"deviation": "standard deviation", "window": "fraction in [-1, 1], %"}
    lines = {}
    for axes, (key, title) in zip(sheet.places, panels.items(), strict=True):
        for number, name in enumerate(FORMS):
            signs = result["rows"][name]["before_signs"]
            for state in states(name):
                unit = 100 if key == "window" else 1
                values = [unit * layer[key] for layer in signs[state]]
                line, face = ("-", None) if state == "trained" else (":", "none")
                colour = sheet.colour(COLOURS[(3, 1, 0)[number]])
                style = {"marker": MARKERS[number], "color": colour, "markersize": 6}
                places = range(1, 1 + len(values))
                (drawn,) = axes.plot(
                    places, values, line, markerfacecolor=face, **style
                )
                lines[f"{FORMS[name]}, {STATES[state]}"] = drawn
        sheet.label(axes, title, "binary layer")
        axes.set_xticks(range(1, 7))
    sheet.places[0].set_yscale("log")
    sheet.places[1].set_ylim(-4, 104)
    sheet.legend(lines.values(), lines.keys(), ncols=2)
    return sheet.figure


def choosing(dark, result, methods):
    """Accuracy of each by its own recipe against what it costs."""
    sheet = Sheet(dark, 8, 3.8, columns=2, sharey=True)
    reached = {
        name: low_to_high(group["metrics"]["val_accuracy"])
        for name, group in of_cells(methods).items()
    }
    for name, row in result["rows"].items():
        low, mean, high = reached[name]
        ours = {"nobn": BLUE, "batch_norm": ORANGE}.get(name, GREEN)
        costs = row["time_ratio"], sum(row["float_ops"].values())
        nudges = NUDGES.get(name, ((7, 3), (7, 3)))
        for axes, cost, nudge in zip(sheet.places, costs, nudges, strict=True):
            axes.plot([cost, cost], [low, high], color=sheet.colour(ours), linewidth=2)
            axes.plot(cost, mean, "o", color=sheet.colour(ours), markersize=7)
            sheet.annotate(axes, name, (cost, mean), nudge)
    sheet.label(
        sheet.places[0], x="time of a training step, batch norm = 1", y="accuracy, %"
    )
    sheet.label(sheet.places[1], x="TFLite float operations")
    for axes in sheet.places:
        axes.margins(x=0.2, y=0.1)
    return sheet.figure


# Where names stand beside their dots, so that none covers another.
NUDGES = {
    "none": ((7, 3), (7, -8)),
    "kalman": ((-46, 3), (7, 3)),
    "independent_component": ((-67, -21), (7, 9)),
    "filter_response": ((7, -4), (7, 1)),
    "proxy": ((-36, -6), (-40, -4)),
    "group": ((-40, -6), (8, -3)),
    "evonorm": ((-26, 8), (-32, -14)),
}


def own_network(dark, result):
    """Accuracy after each step in large and small batches, and what the file costs."""
    rows = result["rows"]
    sheet = Sheet(dark, 8.6, 3.7, columns=3, sharey=True)
    names = [STEPS[name].replace("`", "") for name in rows]
    colours = [sheet.colour(ORANGE if n == "batch norm" else BLUE) for n in rows]
    for axes, task in zip(sheet.places, result["tasks"], strict=False):
        found = [row["accuracy"][task] for row in rows.values()]
        means = [statistics.mean(of) for of in found]
        low, high = list(map(min, found)), list(map(max, found))
        texts = [f"{mean:.1f}" for mean in means]
        sheet.bars(axes, names, means, colours, texts, to=high)
        axes.hlines(range(len(rows)), low, high, color=sheet.ink)
        axes.margins(x=0.32)
        sheet.label(axes, f"{task}", "accuracy, %")
    operations = [row["file"]["float_ops"] for row in rows.values()]
    sheet.bars(sheet.places[2], names, operations, colours, map(str, operations))
    sheet.label(sheet.places[2], "file", "float operations")
    return sheet.figure


def from_larq(dark, result):
    """Float operations of the same networks, by LCE alone and by `convert`."""
    names = [n for n in result["rows"] if result["networks"][n]["side"] == 32]
    forms = {
        "Larq Compute Engine alone, with batch norm": ("batch_norm", "unprepared"),
        "convert, with batch norm": ("batch_norm", "prepared"),
        "convert, without batch norm": ("nobn", "prepared"),
    }
    sheet = Sheet(dark, 6.4, 5)
    (axes,) = sheet.places
    for number, (label, (form, kind)) in enumerate(forms.items()):
        counts = [result["rows"][n][form][kind]["float_ops"] for n in names]
        colour = sheet.colour(COLOURS[(1, 2, 0)[number]])
        aside = 0.27 * (number - 1)
        sheet.bars(axes, names, counts, colour, map(str, counts), aside, 0.25)
        axes.barh([0], [0], color=colour, label=label)
    axes.margins(x=0.08)
    sheet.label(axes, x="float operations beside the binary convolutions")
    sheet.legend(ncols=1)
    return sheet.figure


def from_pytorch(dark, plain, budgets):
    """The published recipe over five epochs, and the recipe `nobn` of as many."""
    sheet = Sheet(dark, 6.2, 4.4)
    (axes,) = sheet.places

    def curves(groups):
        names = [group["settings"]["normalization"] for group in groups]
        means = [[100 * x["mean"] for x in g["val_accuracy"]] for g in groups]
        return dict(zip(names, means, strict=True))

    published = curves(plain["groups"])
    best = curves([g for g in budgets["groups"] if g["settings"]["epochs"] == 5])[
        "nobn"
    ]
    lines = {
        "batch norm, published recipe": published["batch_norm"],
        "no batch norm, recipe nobn": best,
        "no batch norm, published recipe": published["nobn"],
        "nothing in its place, published recipe": published["none"],
    }
    for number, (name, values) in enumerate(lines.items()):
        colour = sheet.colour(COLOURS[(1, 0, 2, 3)[number]])
        style = {"marker": MARKERS[number], "color": colour, "label": name}
        axes.plot(range(1, 1 + len(values)), values, **style)
    axes.set_xticks(range(1, 6))
    sheet.label(axes, x="epoch of CIFAR-10", y="test accuracy, %")
    sheet.legend(ncols=1)
    return sheet.figure


def scaling(dark, result):
    """Time and memory of a training step."""
    sheet = Sheet(dark, 7.6, 3.4, columns=2, sharey=True)
    rows = result["sizes"]["width 16, batch 128"]["rows"]
    colours = [sheet.colour(BLUE if n.startswith("nobn") else ORANGE) for n in rows]
    panels = {
        "milliseconds of a step": [row["ms_quartiles"][1] for row in rows.values()],
        "peak memory of a step, MB": [row["peak_mb"] for row in rows.values()],
    }
    for axes, (title, values) in zip(sheet.places, panels.items(), strict=True):
        texts = [f"{value:.0f}" for value in values]
        sheet.bars(axes, list(rows), values, colours, texts)
        sheet.label(axes, x=title)
    return sheet.figure


LONGEST, CELL = 100, "w16-100"
NAMES = {"nobn": "without batch norm", "batch_norm": "with batch norm"}


def promise(dark, budgets, larger, small_batches, deployment):
    """What the package promises, in numbers: of epochs, batches and operations."""
    curves, batches = ({name: {} for name in NAMES} for _ in range(2))
    for group in budgets["groups"]:
        settings = group["settings"]
        if (name := settings["normalization"]) in NAMES:
            reached = low_to_high(group["metrics"]["val_accuracy"])
            curves[name][settings["epochs"]] = reached
    for name, lengths in curves.items():
        last = of_runs(larger, f"{name}-{CELL}")["accuracy"]
        lengths[LONGEST] = min(last), statistics.mean(last), max(last)
    for stream, row in small_batches["rows"].items():
        for name in NAMES if stream.isdecimal() else ():
            batches[name][stream] = statistics.mean(row[name]["reached"])
    sheet = Sheet(dark, 9.6, 3.4, columns=3, width_ratios=(5, 5, 4))
    long, small, bars = sheet.places
    for number, (name, label) in enumerate(NAMES.items()):
        colour = sheet.colour(COLOURS[number])
        style = {"color": colour, "marker": MARKERS[number], "label": label}
        epochs = sorted(curves[name])
        low, mean, high = zip(*(curves[name][n] for n in epochs), strict=True)
        long.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        long.plot(epochs, mean, **style)
        sizes = list(batches[name].values())
        small.plot(list(batches[name]), sizes, **style)
        apart = {"ha": "center", "va": ("bottom", "top")[number], "color": colour}
        for axes, at, value in ((long, LONGEST, mean[-1]), (small, "1", sizes[0])):
            shift = (0, (7, -7)[number])
            sheet.annotate(axes, f"{value:.1f}", (at, value), shift, **apart)
    long.set_xscale("log")
    long.set_xticks(epochs, epochs)
    long.minorticks_off()
    for axes, title, unit in (
        (long, "the same accuracy", "epochs of training"),
        (small, "more in small batches", "batch size, half an epoch"),
    ):
        axes.margins(x=0.13, y=0.16)
        sheet.label(axes, title, unit, "CIFAR-10 accuracy, %")
    sheet.legend(*long.get_legend_handles_labels(), ncols=2)
    row = deployment["rows"]["ReActNet18"]["batch_norm"]
    kinds = {"LCE alone": "unprepared", "convert": "prepared"}
    operations = [row[kind]["float_ops"] for kind in kinds.values()]
    drawn = bars.bar(list(kinds), operations, color=["#999999", sheet.colour(BLUE)])
    bars.bar_label(drawn, padding=2, color=sheet.ink)
    bars.margins(y=0.15)
    sheet.label(bars, "fewer float operations", "ReActNet-18 in TFLite")
    return sheet.figure


# Name of an image: what draws it, and the files below results/ that it shows.
FIGURES = {
    "promise": (
        promise,
        "budgets/compare.json",
        "larger/runs.json",
        "small_batches/result.json",
        "deployment/result.json",
    ),
    "batch_norm": (batch_norm, "own_network/result.json"),
    "choosing": (choosing, "normalizations/result.json", "methods/compare.json"),
    "own_network": (own_network, "own_network/result.json"),
    "from_larq": (from_larq, "deployment/result.json"),
    "from_pytorch": (
        from_pytorch,
        "cifar10_accuracy/compare.json",
        "budgets/compare.json",
    ),
    "scaling": (scaling, "train_step/result.json"),
}
