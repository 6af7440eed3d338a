"""Files for LCE and LiteRT: accuracy, size and latency."""

from __future__ import annotations

from .markdown import coded, described, table

FORMS = ("LCE", "LCE, int8", "LiteRT", "LiteRT, int8")
INT8 = "LiteRT, int8"
ON_FEW = "LCE, int8"  # what portable kernels run slowly


def runtime_accuracies(result):
    """Top-1 of each trained network in Keras and in its files, in %."""
    rows = [
        [
            f"`{name}`",
            *measured(row["Keras"], row["Keras"], row["LiteRT"], row[INT8]),
            *measured(row[ON_FEW], row[ON_FEW]["keras"], row[ON_FEW]),
        ]
        for name, row in result["rows"].items()
    ]
    head = ["network", "images", "Keras", "LiteRT", "LiteRT, int8"]
    return table([*head, "images", "Keras", ON_FEW], rows)


def int8_costs(result, int8):
    """The same with the int8 files for LiteRT of another log."""
    rows = {name: {**row, **int8["rows"][name]} for name, row in result["rows"].items()}
    return runtime_accuracies({"rows": rows})


def accuracies(result):
    """Top-1 of each trained network in the forms that were measured, in %."""
    rows = [
        [f"`{name}`", *measured(next(iter(row.values())), *row.values())]
        for name, row in result["rows"].items()
    ]
    forms = next(iter(result["rows"].values()))
    return table(["network", "images", *forms], rows)


def c_accuracies(result):
    """Top-1 of C files, beside Keras."""
    return accuracies(result)


def int8_accuracies(result):
    """Top-1 of int8 files for LiteRT."""
    return accuracies(result)


def micro_accuracies(result):
    """Top-1 of files for Micro, beside LiteRT's."""
    return accuracies(result)


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


def c_times(result):
    """The time of each C file as a fraction of that of other files."""
    rows = {f"`{n}`" if n.islower() else n: row for n, row in result["rows"].items()}
    ordinary = ("ordinary, int8", "ordinary, int8, half width")
    others = ("LiteRT, int8", *ordinary, "LiteRT", "LCE")

    def fraction(row, other):
        return f"{row['C']['ms'] / row[other]['ms']:.2f}" if other in row else "-"

    columns = {other: lambda row, other=other: fraction(row, other) for other in others}
    columns["ms"] = lambda row: f"{row['C']['ms']:.2f}"
    return described(rows, columns, "time of C / time of")


def all_latencies(result):
    return f"{runtime_latencies(result)}\n\n{c_times(result)}"


# Of each form: where it runs, and what it needs there.
PLACES = {
    "C": ("all that C is compiled for, browsers", "nothing"),
    "C, small": ("the same", "nothing"),
    "LCE": ("64-bit ARM; x86, slowly", "LCE"),
    "LiteRT": ("x86, 64-bit ARM", "LiteRT"),
    "LiteRT, int8": ("the same, and microcontrollers", "LiteRT, or its Micro"),
}
SHOWN = "reactnet18-w16-cifar10"


def c_runtimes(boards, files, times):
    """One network in every form: size, memory, time, where it runs, what it needs."""
    ms = times["rows"][SHOWN]
    rows = []
    for form, places in PLACES.items():
        if form.startswith("C"):
            option = " --small" * (form != "C")
            sizes = boards["rows"][f"{SHOWN}{option}"]
            size, memory = sizes["constant_bytes"], f"{sizes['memory_bytes'] / 1e3:.0f}"
            name = "one C file" + ", `--small`" * (form != "C")
        else:
            size, memory, name = files["rows"][SHOWN][form]["bytes"], "-", form
        time = ms[form]["ms"] / ms["C"]["ms"]
        rows.append([name, f"{size / 1e3:,.0f}", memory, f"{time:.1f}", *places])
    head = ["form", "kB", "memory, kB", "time", "runs on", "needs"]
    return table(head, rows)


def c_fastest(result):
    """What the C files of ReActNet-18 take of the time of their int8 files."""
    return c_between(result, "LiteRT, int8")


def c_ordinary(result):
    """The same, of the time of ordinary int8 networks of the same shape."""
    return c_between(result, "ordinary, int8")


def c_half_width(result):
    """The same, of the time of ordinary int8 networks of half the width."""
    return c_between(result, "ordinary, int8, half width")


def c_between(result, other):
    rows = [row for row in result["rows"].values() if "ordinary, int8" in row]
    ratios = [row["C"]["ms"] / row[other]["ms"] for row in rows]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def runtime_int8_time(result):
    """What an int8 file for LiteRT takes of the time of LCE's files."""
    ratios = [row["LiteRT, int8"]["ratio"] for row in result["rows"].values()]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"
