"""TFLite models by LCE alone and by `convert`: operations, bytes and latency."""

from __future__ import annotations

from .markdown import table

NORMALIZATIONS = ("batch_norm", "nobn")
KINDS = ("unprepared", "prepared")


def deployment(result):
    head = ("binary convolutions", "float operations", "all operations", "kB")
    ratios = ("latency, `convert` / LCE", "latency, `nobn` / `batch_norm`")
    rows = [
        [
            name if n == NORMALIZATIONS[0] else "",
            f"`{n}`",
            *(change(row[n], key) for key in ("lce_bconv2d", "float_ops", "ops")),
            change(row[n], "bytes", 1e-3),
            ratio(row[n]["prepared_to_unprepared"]),
            ratio(row["nobn_to_batch_norm"]) if n == "nobn" else "",
        ]
        for name, row in result["rows"].items()
        for n in NORMALIZATIONS
    ]
    reasons = [
        f"\n{name}, `{n}`, {kind}: {row[n][kind]['refused']}"
        for name, row in result["rows"].items()
        for n in NORMALIZATIONS
        for kind in KINDS
        if "refused" in row[n][kind]
    ]
    return "\n".join([table(["", "", *head, *ratios], rows), *reasons])


# Of the networks, those on the page of results.
SHOWN = ("ReActNet18", "ReActNet18, 224 px", "BiRealNet18", "ReActNetA")


def files(result):
    """A row for some networks with batch norm and without, in few columns."""
    rows = [
        [
            f"{name}, `{n}`",
            change(row[n], "lce_bconv2d"),
            change(row[n], "float_ops"),
            change(row[n], "bytes", 1e-3),
            ratio(row[n]["prepared_to_unprepared"]).partition(" ")[0],
        ]
        for name, row in ((name, result["rows"][name]) for name in SHOWN)
        for n in NORMALIZATIONS
    ]
    head = ["", "binary convolutions", "float operations", "kB", "latency ratio"]
    return table(head, rows)


def change(measured, key, unit=1):
    """One number by LCE alone and by `convert`; none of a model that was rejected."""
    return " → ".join(
        f"{unit * measured[kind][key]:,.0f}" if key in measured[kind] else "none"
        for kind in KINDS
    )


def ratio(measured):
    if measured is None:
        return ""
    low, high = measured["interval"]
    return f"{measured['ratio']:.2f} ({low:.2f} to {high:.2f})"


def saved_operations(result):
    """Which fraction of its float operations a network with batch norm loses."""
    pairs = [
        [row["batch_norm"][k]["float_ops"] for k in KINDS]
        for row in result["rows"].values()
    ]
    return in_percent([1 - prepared / unprepared for unprepared, prepared in pairs])


def saved_time(result):
    ratios = [
        r["batch_norm"]["prepared_to_unprepared"]["ratio"]
        for r in result["rows"].values()
    ]
    return in_percent([1 - ratio for ratio in ratios])


def in_percent(shares):
    return f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"
