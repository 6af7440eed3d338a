"""Folders of pictures, and what the command line makes of them."""

from __future__ import annotations

from .markdown import table

HEAD = (
    *("pictures", "classes", "size", "to train with", "epochs, recipe", "held out"),
    *("same, of the file", "same class, run and file"),
)


def photographs(result):
    """A row per training."""
    return table(HEAD, [[name, *cells(row)] for name, row in result["rows"].items()])


def cells(row):
    height, width, _ = row["image_shape"]
    recipe = row["recipe"] + (f" from {row['from']}" if row["from"] else "")
    return [
        row["classes"],
        f"{height}x{width}",
        f"{row['train']:,}",
        f"{row['epochs']}, {recipe}",
        f"{row['accuracy_run']:.1%}",
        f"{row['accuracy_file']:.1%}",
        f"{row['same_class']} of {row['shown']}",
    ]
