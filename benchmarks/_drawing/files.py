"""TFLite models by LCE alone and by `convert`: operations, bytes and latency."""

from __future__ import annotations

from .markdown import described, table

NORMALIZATIONS = ("batch_norm", "nobn")
KINDS = ("unprepared", "prepared")


def change(key, unit=1):
    """One number by LCE alone and by `convert`; none of a model that was rejected."""
    return lambda row: " → ".join(
        f"{unit * row[kind][key]:,.0f}" if key in row[kind] else "none"
        for kind in KINDS
    )


COUNTS = {
    "binary convolutions": change("lce_bconv2d"),
    "float operations": change("float_ops"),
}
BYTES = {"kB": change("bytes", 1e-3)}


def deployment(result):
    columns = {**COUNTS, "all operations": change("ops"), **BYTES}
    ratios = ("latency, `convert` / LCE", "latency, `nobn` / `batch_norm`")
    rows, reasons = [], []
    for name, row in result["rows"].items():
        for n in NORMALIZATIONS:
            first = n == NORMALIZATIONS[0]
            cells = [name if first else "", f"`{n}`"]
            cells += [cell(row[n]) for cell in columns.values()]
            cells += [ratio(row[n]["prepared_to_unprepared"])]
            rows.append([*cells, "" if first else ratio(row["nobn_to_batch_norm"])])
            reasons += [
                f"\n{name}, `{n}`, {kind}: {row[n][kind]['refused']}"
                for kind in KINDS
                if "refused" in row[n][kind]
            ]
    return "\n".join([table(["", "", *columns, *ratios], rows), *reasons])


# Of the networks, those on the page of results.
SHOWN = ("ReActNet18", "ReActNet18, 224 px", "BiRealNet18", "ReActNetA")


def files(result):
    """A row for some networks with batch norm and without, in few columns."""
    rows = {
        f"{name}, `{n}`": result["rows"][name][n]
        for name in SHOWN
        for n in NORMALIZATIONS
    }
    latency = {"latency ratio": lambda row: ratio(row["prepared_to_unprepared"])[:4]}
    return described(rows, {**COUNTS, **BYTES, **latency})


def ratio(measured):
    if measured is None:
        return ""
    low, high = measured["interval"]
    return f"{measured['ratio']:.2f} ({low:.2f} to {high:.2f})"


def saved_operations(result):
    """Which fraction of its float operations a network with batch norm loses."""
    rows = [row["batch_norm"] for row in result["rows"].values()]
    counts = [[row[kind]["float_ops"] for kind in KINDS] for row in rows]
    return in_percent([1 - prepared / unprepared for unprepared, prepared in counts])


def saved_time(result):
    rows = [row["batch_norm"] for row in result["rows"].values()]
    return in_percent([1 - row["prepared_to_unprepared"]["ratio"] for row in rows])


def in_percent(shares):
    return f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"


def file_sizes(rows):
    """Flash and memory in kB of each network's files for boards, and what they fit."""
    found = {}
    for name, (height, *_), runtime, *sizes in rows:
        found.setdefault((name, height), {})[runtime] = [size / 1024 for size in sizes]
    cells = []
    for (name, height), sizes in found.items():
        row = [f"`{name}`" if "-" in name else name, height]
        for kilobytes in (sizes.get("c"), sizes.get("micro")):
            both, board = "-", "-"
            if kilobytes:
                both = " + ".join(f"{size:,.0f}" for size in kilobytes)
                fits = (f"{b:,}" for b in (256, 512, 1024, 2048) if b >= max(kilobytes))
                board = next(fits, "none")
            row += [both, board]
        cells.append(row)
    head = ["network", "pixels", "C", "fits", "Micro", "fits"]
    return table(head, cells)
