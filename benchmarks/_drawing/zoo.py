"""Models of Larq Zoo: folded, freed of batch norm, converted."""

from __future__ import annotations

from .markdown import table

TOOLS = ("fold", "remove", "convert")
HEAD = (
    *("", "image", "batch norms", "difference, folded", "affine layers, folded"),
    *("left, removed", "binary convolutions", "binary layers in float"),
    *("float operations", "kB", "examples equal"),
)


def zoo(result):
    """A row per model; what was rejected says so, and why below the table."""
    rows = result["rows"]
    reasons = [
        f"\n{name}, {tool}: {row[tool]['refused']}"
        for name, row in rows.items()
        for tool in TOOLS
        if "refused" in row[tool]
    ]
    return "\n".join([table(HEAD, [[n, *cells(r)] for n, r in rows.items()]), *reasons])


def cells(row):
    fold, remove, convert = (row[tool] for tool in TOOLS)
    return [
        f"{row['side']} px",
        row["batch_norms"],
        said(fold, lambda: f"{fold['difference']:.0e}".replace("e-0", "e-")),
        said(fold, lambda: fold["affine_layers"]),
        said(remove, lambda: remove["batch_norms"]),
        said(
            convert, lambda: f"{convert['lce_bconv2d']} of {convert['binary_layers']}"
        ),
        said(convert, lambda: convert["in_float"]),
        said(convert, lambda: convert["float_ops"]),
        said(convert, lambda: f"{convert['bytes'] / 1e3:,.0f}"),
        said(convert, lambda: f"{convert['verify']['exact_share']:.0%}"),
    ]


def said(measured, cell):
    return "refused" if "refused" in measured else cell()
