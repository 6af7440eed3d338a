"""Binary and real-valued projections in files for LCE."""

from __future__ import annotations

from .markdown import table


def projections(result):
    """A row for each network: what its shortcuts are in the file."""
    head = ["", "binary convolutions", "1x1 convolutions", "type", "their kB", "kB"]
    return table(
        [*head, "float operations"],
        [
            [
                name,
                row["binary_convolutions"],
                row["projections"],
                ", ".join(row["types"]),
                f"{row['projection_bytes'] / 1e3:,.0f}",
                f"{row['bytes'] / 1e3:,.0f}",
                row["float_operations"],
            ]
            for name, row in result["rows"].items()
        ],
    )
