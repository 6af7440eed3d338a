"""Time and memory of a training step."""

from __future__ import annotations

from .markdown import described, number, table

COLUMNS = {
    "ms": lambda row: " / ".join(f"{q:.0f}" for q in row["ms_quartiles"]),
    "time": number("time_ratio", "{:.2f}"),
    "traced MB": number("traced_mb"),
    "peak MB": number("peak_mb"),
    "memory": number("memory_ratio", "{:.2f}"),
}
SHARES = ("clipping", "balanced filters")
MARKS = {
    "a `nobn` step / its convolutions alone": ("nobn", "convolutions alone"),
    "the same in `mixed_bfloat16`": ("nobn bfloat16", "convolutions alone, bfloat16"),
    "the published code / a `nobn` step": ("published code", "nobn"),
    "the published code / one in `mixed_bfloat16`": ("published code", "nobn bfloat16"),
}


def train_step(result):
    """Everything at each size; the marks have times alone."""
    tables = []
    for size, of in result["sizes"].items():
        marks = {name: {"ms_quartiles": q} for name, q in of["marks"].items()}
        rows = described(of["rows"] | marks, COLUMNS, "variant")
        tables.append(f"{size[0].upper()}{size[1:]}:\n\n{rows}")
    return "\n\n".join(tables)


def train_step_short(result):
    sizes, large = result["sizes"], result["memory"]

    def row(title, cell, of_large=None):
        cells = map(cell, sizes.values())
        return [title, *cells, *(of_large or ["-"] * len(large))]

    def ratio(variant, key):
        return lambda of: f"{of['rows'][variant][key]:.2f}"

    def share(name):
        title = f"{name}, fraction of a `nobn` step"
        return row(title, lambda of: f"{of['shares'][name]:.1%}")

    time, memory = (ratio("nobn", key) for key in ("time_ratio", "memory_ratio"))
    half = ratio("nobn bfloat16", "time_ratio")
    peaks = [f"{rows['nobn']['memory_ratio']:.2f}" for rows in large.values()]
    rows = [
        row("`nobn`, time", time),
        row("`nobn` in `mixed_bfloat16`, time", half),
        row("`nobn`, peak memory", memory, peaks),
        *map(share, SHARES),
    ]
    return table(["", *sizes, *large], rows)


def marks(result):
    """Ratios of medians to what is not ours to make faster, and to other code."""

    def ratio(of, pair):
        rows = {name: row["ms_quartiles"] for name, row in of["rows"].items()}
        upper, lower = ((rows | of["marks"]).get(name) for name in pair)
        return "-" if None in (upper, lower) else f"{upper[1] / lower[1]:.2f}"

    columns = {
        size: lambda pair, of=of: ratio(of, pair)
        for size, of in result["sizes"].items()
    }
    return described(MARKS, columns)
