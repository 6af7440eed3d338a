"""Files for LCE and LiteRT: accuracy, size and latency."""

from __future__ import annotations

from .markdown import table

FORMS = ("LCE", "LCE, int8", "LiteRT", "LiteRT, int8")
EVALUATED = ("Keras", "LCE, int8", "LiteRT", "LiteRT, int8")


def accuracies(result):
    """Top-1 of each trained network in Keras and in its files, in %."""
    rows = [
        [
            f"`{name}`",
            f"{row['Keras']['examples']:,}",
            *(f"{100 * row[form]['accuracy']:.2f}" for form in EVALUATED),
        ]
        for name, row in result["rows"].items()
    ]
    return table(["network", "test images", *EVALUATED], rows)


def file_sizes(result):
    """Each file as it is, and zipped, in kB."""

    def kilobytes(file):
        return f"{file['bytes'] / 1e3:,.0f} ({file['zipped_bytes'] / 1e3:,.0f})"

    rows = [
        [f"`{name}`", *(kilobytes(row[form]) for form in FORMS)]
        for name, row in result["rows"].items()
    ]
    return table(["kB (zipped)", *FORMS], rows)


def ranges(result):
    """Accuracy on training images in %, by what is beyond either end of a range."""
    rows = [
        [f"`{name}`", *(f"{100 * accuracy:.2f}" for accuracy in row.values())]
        for name, row in result["rows"].items()
    ]
    head = next(iter(result["rows"].values()))
    return table(["network", *head], rows)


def latencies(result):
    """Medians of one image, in ms, and ratios to the file for LCE."""
    rows = [
        [
            f"`{name}`" if name.islower() else name,
            *(f"{row[form]['ms']:.2f} ({row[form]['ratio']:.2f})" for form in FORMS),
        ]
        for name, row in result["rows"].items()
    ]
    return table(["ms (ratio)", *FORMS], rows)


def int8_loss(result):
    """The most that int8 costs a trained network in LiteRT, in points of top-1."""
    return _most(result, "LiteRT, int8")


def int8_loss_lce(result):
    return _most(result, "LCE, int8")


def _most(result, form):
    rows = result["rows"].values()
    lost = max(row["Keras"]["accuracy"] - row[form]["accuracy"] for row in rows)
    return f"{100 * lost:.2f}"
