"""Files for LCE and LiteRT: accuracy, size and latency."""

from __future__ import annotations

from .markdown import table

FORMS = ("LCE", "LCE, int8", "LiteRT", "LiteRT, int8")


def accuracies(result):
    """Top-1 of each trained network in Keras and in its files, in %."""
    rows = [
        [
            f"`{name}`",
            f"{row['Keras']['examples']:,}",
            *(percent(row[form]) for form in ("Keras", "LiteRT", "LiteRT, int8")),
            *on_few(row.get("LCE, int8")),
        ]
        for name, row in result["rows"].items()
    ]
    head = ["network", "images", "Keras", "LiteRT", "LiteRT, int8"]
    return table([*head, "images", "Keras", "LCE, int8"], rows)


def on_few(measured):
    """Images, Keras and file of what portable kernels run slowly, if that was done."""
    if measured is None:
        return ["-"] * 3
    return [
        f"{measured['examples']:,}",
        percent(measured["keras"]),
        percent(measured),
    ]


def percent(measured):
    return f"{100 * measured['accuracy']:.2f}"


def file_sizes(result):
    """Each file as it is, and zipped, in kB."""

    def kilobytes(file):
        return f"{file['bytes'] / 1e3:,.0f} ({file['zipped_bytes'] / 1e3:,.0f})"

    rows = [
        [f"`{name}`", *(kilobytes(row[form]) if form in row else "-" for form in FORMS)]
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


def int8_time(result):
    """What an int8 file for LiteRT takes of the time of LCE's files."""
    ratios = [row["LiteRT, int8"]["ratio"] for row in result["rows"].values()]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


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
