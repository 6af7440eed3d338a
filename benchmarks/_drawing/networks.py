"""The networks of the package as TFLite models."""

from __future__ import annotations

from .markdown import table

HEAD = (
    *("network", "input", "parameters (M)", "binary MACs (M)", "float MACs (M)"),
    *("size (kB)", "float operations", "latency", "top-1"),
)


def models(result):
    """A row per network; a trained one says on which images its accuracy is."""
    return table(HEAD, [[f"`{n}`", *cells(r)] for n, r in result["rows"].items()])


def relative(ratio, low, high):
    return f"{ratio:.2g} ({low:.2g} to {high:.2g})" if low < high else f"{ratio:g}"


def cells(row):
    height, width, channels = row["input"]
    reached = "-"
    if "accuracy" in row:
        reached = f"{100 * row['accuracy']:.1f}"
    return [
        f"{height}x{width}x{channels}",
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['binary_macs'] / 1e6:,.0f}",
        f"{row['float_macs'] / 1e6:,.1f}",
        f"{row['size_bytes'] / 1e3:,.0f}",
        row["float_ops"],
        relative(**row["latency"]),
        reached,
    ]
