"""The two kinds of pictures in results/: dots on lines, and curves over epochs."""

from __future__ import annotations

# Told apart by colour-blind readers too (Okabe and Ito), and by their markers.
LOOKS = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#000000", "X"),
)
LONELY = ("#000000", "o")


def dots(path, title, panels):
    """A row for each thing measured: a dot on a line from its lowest to its highest.

    `panels` is {what is measured: {series: {row: (low, middle, high)}}}; the series of
    one panel are told apart by colour, and a lonely one, without a name, is black.
    """
    names = list({row: None for p in panels.values() for s in p.values() for row in s})
    wide = 1 + max(map(len, names)) / 12
    figure = new_figure(title, wide + 2.6 * len(panels), 1.4 + 0.28 * len(names))
    legend = {}
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (heading, series) in zip(places, panels.items(), strict=True):
        for number, (name, measured) in enumerate(series.items()):
            aside = 0.24 * (number - (len(series) - 1) / 2)
            heights = [names.index(row) + aside for row in measured]
            low, middle, high = zip(*measured.values(), strict=True)
            colour, marker = LOOKS[number] if name else LONELY
            axes.hlines(heights, low, high, color=colour, linewidth=2)
            (line,) = axes.plot(middle, heights, marker, color=colour, markersize=5)
            if name:
                legend[name] = line
        axes.set_xlabel(heading)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)  # the first on top
        axes.grid(alpha=0.3)
    finish(figure, legend, path)


def curves(path, title, panels):
    """Test accuracy over epochs, means in bands from lowest to highest.

    `panels` is {heading: {line: [(epoch, low, mean, high)]}}, of the same lines each.
    """
    figure = new_figure(title, 1.2 + 2.8 * len(panels), 4)
    legend = {}
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (heading, lines) in zip(places, panels.items(), strict=True):
        for number, (name, points) in enumerate(lines.items()):
            colour, marker = LOOKS[number]
            if not points:
                continue
            epochs, low, mean, high = zip(*points, strict=True)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
            (legend[name],) = axes.plot(
                epochs, mean, color=colour, marker=marker, markersize=4
            )
        axes.set_title(heading, fontsize="medium")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    places[0].set_ylabel("test accuracy, %")
    finish(figure, legend, path)


def new_figure(title, width, height):
    from matplotlib.figure import Figure  # slow, and the tables do without

    # At least as wide as a title.
    figure = Figure(figsize=(max(6, width), height), layout="constrained")
    figure.suptitle(title)
    return figure


def finish(figure, legend, path):
    if legend:
        figure.legend(
            legend.values(), legend.keys(), loc="outside lower center", ncols=4
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
