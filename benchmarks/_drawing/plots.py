"""The two kinds of images in results/: dots on lines, and curves over epochs."""

from __future__ import annotations

import io

# Distinguished by colour-blind readers too (Okabe and Ito), and by their markers.
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
# Small figures of many dots per inch: letters stay readable at half their size.
DPI = 150
COLOURS = 128  # bands over one another and smooth letters included
PANELS_PER_ROW = 3
LETTER = 0.085  # inches


def look(number):
    """Colour, marker and dashes; after the last colour the first one, in dashes."""
    colour, marker = LOOKS[number % len(LOOKS)]
    return colour, marker, ("-", "--", ":")[number // len(LOOKS) % 3]


def dots(path, title, panels):
    """A row for each thing measured: a dot on a line from its lowest to its highest.

    `panels` is {what is measured: {series: {row: (low, middle, high)}}}; the series of
    one panel are distinguished by colour, and a lonely one, without a name, is black.
    """
    names = list({row: None for p in panels.values() for s in p.values() for row in s})
    labels = 0.3 + LETTER * max(map(len, names))
    height = 0.6 + 0.24 * len(names)
    figure, places = new_figure(title, panels, labels, 1.9, height)
    legend = {}
    for axes, (heading, series) in zip(places, panels.items(), strict=True):
        for number, (name, measured) in enumerate(series.items()):
            aside = 0.24 * (number - (len(series) - 1) / 2)
            heights = [names.index(row) + aside for row in measured]
            low, middle, high = zip(*measured.values(), strict=True)
            colour, marker = look(number)[:2] if name else LONELY
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
    figure, places = new_figure(title, panels, 0.6, 2.1, 2.4)
    legend = {}
    for axes, (heading, lines) in zip(places, panels.items(), strict=True):
        for number, (name, points) in enumerate(lines.items()):
            colour, marker, dashes = look(number)
            if not points:
                continue
            epochs, low, mean, high = zip(*points, strict=True)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
            (legend[name],) = axes.plot(
                epochs, mean, dashes, color=colour, marker=marker, markersize=4
            )
        axes.set_title(heading, fontsize="medium")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    places[0].set_ylabel("test accuracy, %")
    finish(figure, legend, path)


def new_figure(title, panels, labels, width, height):
    """A figure and its panels, all of one size in inches, and labels on the left."""
    from matplotlib.figure import Figure  # slow, and the tables do without

    rows = -(-len(panels) // PANELS_PER_ROW)
    columns = -(-len(panels) // rows)
    # At least as wide as its title.
    wide = max(labels + width * columns, 0.4 + 1.3 * LETTER * len(title))
    figure = Figure(figsize=(wide, 0.4 + height * rows), layout="constrained")
    figure.suptitle(title)
    places = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    return figure, places[: len(panels)]


def finish(figure, legend, path):
    """Adds the legend below, in as many columns as fit, and room for it."""
    if legend:
        width, height = figure.get_size_inches()
        entry = 0.7 + LETTER * max(map(len, legend))
        columns = max(1, min(len(legend), int(width / entry)))
        figure.set_size_inches(width, height + 0.3 + 0.2 * -(-len(legend) // columns))
        figure.legend(
            legend.values(), legend.keys(), loc="outside lower center", ncols=columns
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write(figure, path)


def write(figure, path):
    """A PNG file of few colours, a third of the usual size."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    few = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
