"""Norms that look at one example: what holds them back, and what crops do to them."""

from __future__ import annotations

from .markdown import table

NAMES = {
    "mirrored": "crops from mirrored borders",
    "clip_0.08": "clipping at 0.08",
    "unclipped": "without clipping",
    "nobn_steps": "β₂ and multiplier of shifts and gains of `nobn`",
    "branches": "norms in branches only",
    "branches_mirrored": "that, and crops from mirrored borders",
}


def single_examples(result):
    """A row for each candidate, a column for each method: accuracy (loss)."""
    rows = result["rows"]
    names = [name for name in NAMES if any(name in of for of in rows.values())]
    return table(
        ["", *(f"`{method}`" for method in rows)],
        [
            [NAMES[name], *(held_out(of.get(name)) for of in rows.values())]
            for name in names
        ],
    )


def held_out(row):
    if row is None:
        return "-"
    return f"{100 * row['val_accuracy']:.1f} ({row['val_loss']:.2f})"


def cropped(result):
    """A row for each run: loss on cropped and on whole images, the worst turn first."""
    rows = sorted(
        result["rows"].values(), key=lambda row: row["cropped"] - row["whole"]
    )
    return table(
        ["", "cropped", "whole", "difference"],
        [
            [
                f"`{row['normalization']}`",
                f"{row['cropped']:.3f}",
                f"{row['whole']:.3f}",
                f"{row['whole'] - row['cropped']:+.3f}",
            ]
            for row in rows
        ],
    )
