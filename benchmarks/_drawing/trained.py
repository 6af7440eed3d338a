"""Of trained networks: their weights in 32 bits, and what their signs meet."""

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


def sign_inputs(result):
    """A row for each run: deviation and share within the window, for each stage."""
    rows = sorted(result["rows"].values(), key=place)
    return table(
        ["", "epochs", "seed", *rows[0]["stages"]],
        [
            [
                f"`{row['normalization']}`",
                row["epochs"],
                row["seed"],
                *(
                    f"{stage['deviation']:.2f} ({stage['share']:.0%})"
                    for stage in row["stages"].values()
                ),
            ]
            for row in rows
        ],
    )


def place(row):
    return row["epochs"], row["normalization"], row["seed"]
