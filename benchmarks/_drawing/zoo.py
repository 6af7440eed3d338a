"""Models of Larq Zoo: folded, freed of batch norm, converted."""

from __future__ import annotations

from .markdown import described


def of(tool, cell):
    """A cell of what a tool found; the tool may have rejected the model."""
    return lambda row: "refused" if "refused" in row[tool] else cell(row[tool])


COLUMNS = {
    "image": lambda row: f"{row['side']} px",
    "batch norms": lambda row: row["batch_norms"],
    "difference, folded": of(
        "fold", lambda found: f"{found['difference']:.0e}".replace("e-0", "e-")
    ),
    "affine layers, folded": of("fold", lambda found: found["affine_layers"]),
    "left, removed": of("remove", lambda found: found["batch_norms"]),
    "binary convolutions": of(
        "convert", lambda found: f"{found['lce_bconv2d']} of {found['binary_layers']}"
    ),
    "binary layers in float": of("convert", lambda found: found["in_float"]),
    "float operations": of("convert", lambda found: found["float_ops"]),
    "kB": of("convert", lambda found: f"{found['bytes'] / 1e3:,.0f}"),
    "examples equal": of(
        "convert", lambda found: f"{found['verify']['exact_share']:.0%}"
    ),
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
