"""The networks of the package as TFLite models."""

from __future__ import annotations

from .markdown import coded, described, number


def latency(row):
    if "latency" not in row:
        return "-"
    ratio, low, high = (row["latency"][end] for end in ("ratio", "low", "high"))
    return f"{ratio:.2g} ({low:.2g} to {high:.2g})" if low < high else f"{ratio:g}"


LONG = {
    "input": lambda row: "x".join(map(str, row["input"])),
    "parameters (M)": number("parameters", "{:.2f}", 1e-6),
    "binary MACs (M)": number("binary_macs", unit=1e-6),
    "float MACs (M)": number("float_macs", "{:,.1f}", 1e-6),
    "size (kB)": number("size_bytes", unit=1e-3),
    "float operations": number("float_ops"),
    "latency": latency,
}
# What one chooses by, as narrow as the page of a phone.
SHORT = {
    "MACs (M)": lambda row: f"{(row['binary_macs'] + row['float_macs']) / 1e6:,.0f}",
    "kB": number("size_bytes", unit=1e-3),
    "latency": lambda row: latency(row).partition(" ")[0],
}
PIXELS = {"pixels": lambda row: row["input"][0]}
TOP_1 = {"top-1": number("accuracy", "{:.1f}", 100)}


def drawing(name, trained, columns):
    """Draws the networks with trained weights, or those without."""

    def draw(result):
        rows = {n: r for n, r in result["rows"].items() if ("accuracy" in r) == trained}
        return described(coded(rows), columns, "network")

    draw.__name__ = name
    return draw


def narrow_networks(result):
    def size(runtime):
        return lambda row: (
            "-"
            if row["files"][runtime] is None
            else f"{row['files'][runtime] / 1e3:.1f}"
        )

    rows = result["rows"]
    runtimes = next(iter(rows.values()))["files"]
    columns = {
        "normalization": lambda row: f"`{row['normalization']}`",
        "accuracy": number("accuracy", "{:.1f}"),
        "binary layers": number("binary"),
        **{f"{name} (kB)": size(name) for name in runtimes},
    }
    return described(coded(rows), columns, "network")


models = drawing("models", False, LONG)
DRAWN = (
    models,
    drawing("trained_models", True, TOP_1 | LONG),
    drawing("short_models", False, PIXELS | SHORT),
    drawing("short_trained_models", True, TOP_1 | SHORT),
)
