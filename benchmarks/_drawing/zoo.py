"""Models of Larq Zoo: folded, freed of batch norm, converted."""

from __future__ import annotations

from .markdown import described, number

DIFFERENCE, EXACT = number("difference", "{:.0e}"), number("exact_share", "{:.0%}")


def of(tool, cell):
    """A cell of what a tool found; the tool may have rejected the model."""
    return lambda row: "refused" if "refused" in row[tool] else cell(row[tool])


COLUMNS = {
    "image": number("side", "{} px"),
    "batch norms": number("batch_norms"),
    "difference, folded": of("fold", lambda x: DIFFERENCE(x).replace("e-0", "e-")),
    "affine layers, folded": of("fold", number("affine_layers")),
    "left, removed": of("remove", number("batch_norms")),
    "binary convolutions": of("convert", "{lce_bconv2d} of {binary_layers}".format_map),
    "binary layers in float": of("convert", number("in_float")),
    "float operations": of("convert", number("float_ops")),
    "kB": of("convert", number("bytes", unit=1e-3)),
    "examples equal": of("convert", lambda x: EXACT(x["verify"])),
}


def zoo(result):
    """A row per model; why a tool rejected one stands below the table."""
    rows = result["rows"]
    reasons = [
        f"\n{name}, {tool}: {row[tool]['refused']}"
        for name, row in rows.items()
        for tool in ("fold", "remove", "convert")
        if "refused" in row[tool]
    ]
    return "\n".join([described(rows, COLUMNS), *reasons])
