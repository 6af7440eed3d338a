"""Networks trained in 16 bits, and the same weights in 32."""

from __future__ import annotations

from .markdown import table


def half_precision(result):
    """A row for each run."""
    return table(
        ["", "epochs", "seed", "bfloat16", "float32", "difference", "same class"],
        [
            [
                f"`{row['normalization']}`",
                row["epochs"],
                row["seed"],
                f"{row['mixed_bfloat16']:.1f}",
                f"{row['float32']:.1f}",
                f"{row['float32'] - row['mixed_bfloat16']:+.1f}",
                f"{row['same_class']:.1f}%",
            ]
            for row in sorted(result["rows"].values(), key=place)
        ],
    )


def place(row):
    return row["epochs"], row["normalization"], row["seed"]
