"""The networks of the package as TFLite models."""

from __future__ import annotations

from .markdown import table

HEAD = (
    *("input", "parameters (M)", "binary MACs (M)", "float MACs (M)"),
    *("size (kB)", "float operations", "latency"),
)


def models(result):
    """A row for each network without trained weights."""
    rows = [[f"`{n}`", *cells(row)] for n, row in untrained(result).items()]
    return table(["network", *HEAD], rows)


def trained_models(result):
    """A row for each trained network, its accuracy first."""
    rows = [
        [f"`{name}`", top_1(row), *cells(row)] for name, row in trained(result).items()
    ]
    return table(["network", "top-1", *HEAD], rows)


def short_models(result):
    """The same with what one chooses by, as narrow as the page of a phone."""
    rows = [
        [f"`{n}`", row["input"][0], *short(row)] for n, row in untrained(result).items()
    ]
    return table(["network", "pixels", *SHORT], rows)


def short_trained_models(result):
    rows = [[f"`{n}`", top_1(row), *short(row)] for n, row in trained(result).items()]
    return table(["network", "top-1", *SHORT], rows)


SHORT = ("MACs (M)", "kB", "latency")


def short(row):
    macs = (row["binary_macs"] + row["float_macs"]) / 1e6
    ratio = f"{row['latency']['ratio']:.2g}"
    return [f"{macs:,.0f}", f"{row['size_bytes'] / 1e3:,.0f}", ratio]


def top_1(row):
    return f"{100 * row['accuracy']:.1f}"


def trained(result):
    return {name: row for name, row in result["rows"].items() if "accuracy" in row}


def untrained(result):
    return {name: row for name, row in result["rows"].items() if "accuracy" not in row}


def relative(ratio, low, high):
    return f"{ratio:.2g} ({low:.2g} to {high:.2g})" if low < high else f"{ratio:g}"


def cells(row):
    height, width, channels = row["input"]
    return [
        f"{height}x{width}x{channels}",
        f"{row['parameters'] / 1e6:.2f}",
        f"{row['binary_macs'] / 1e6:,.0f}",
        f"{row['float_macs'] / 1e6:,.1f}",
        f"{row['size_bytes'] / 1e3:,.0f}",
        row["float_ops"],
        relative(**row["latency"]),
    ]
