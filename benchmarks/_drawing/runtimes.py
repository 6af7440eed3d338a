"""Files for LCE and LiteRT: accuracy, size and latency."""

from __future__ import annotations

from .markdown import coded, described, table

FORMS = ("LCE", "LCE, int8", "LiteRT", "LiteRT, int8")
ON_FEW = "LCE, int8"  # what portable kernels run slowly


def runtime_accuracies(result):
    """Top-1 of each trained network in Keras and in its files, in %."""
    rows = [
        [
            f"`{name}`",
            *measured(row["Keras"], row["Keras"], row["LiteRT"], row["LiteRT, int8"]),
            *measured(row[ON_FEW], row[ON_FEW]["keras"], row[ON_FEW]),
        ]
        for name, row in result["rows"].items()
    ]
    head = ["network", "images", "Keras", "LiteRT", "LiteRT, int8"]
    return table([*head, "images", "Keras", ON_FEW], rows)


def measured(images, *forms):
    yield f"{images['examples']:,}"
    yield from (f"{100 * form['accuracy']:.2f}" for form in forms)


def runtime_sizes(result):
    """Each file as it is, and zipped, in kB."""

    def kilobytes(row, form):
        return "{bytes:,.0f} ({zipped_bytes:,.0f})".format(
            **{n: row[form][n] / 1e3 for n in ("bytes", "zipped_bytes")}
        )

    return by_form(coded(result["rows"]), kilobytes, "kB (zipped)")


def runtime_latencies(result):
    """Medians of one image, in ms, and ratios to the file for LCE."""
    rows = {f"`{n}`" if n.islower() else n: row for n, row in result["rows"].items()}

    def milliseconds(row, form):
        return "{ms:.2f} ({ratio:.2f})".format(**row[form])

    return by_form(rows, milliseconds, "ms (ratio)")


def by_form(rows, cell, corner):
    columns = {form: lambda row, form=form: cell(row, form) for form in FORMS}
    return described(rows, columns, corner)


def runtime_int8_time(result):
    """What an int8 file for LiteRT takes of the time of LCE's files."""
    ratios = [row["LiteRT, int8"]["ratio"] for row in result["rows"].values()]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"
