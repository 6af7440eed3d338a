"""The table to choose a normalization by, and a file operation by operation."""

from __future__ import annotations

from .accuracy import costs
from .markdown import spread, table

# What a normalization takes its statistics from, in training.
LOOKS_AT = {
    "batch_norm": "the batch",
    "none": "nothing",
    "nobn": "nothing",
    "filter_response": "one example",
    "proxy": "one example",
    "group": "one example",
    "kalman": "the batch and a prior",
    "independent_component": "the batch",
    "evonorm": "one example",
}


def choosing(result):
    tasks = {
        "CIFAR-10": "CIFAR-10, batch 128",
        "digits, batch 2": "digits, batch 2",
    }
    return table(
        ["", *tasks.values(), "statistics of", "time", "memory", "float operations"],
        [
            [
                f"`{name}`",
                *(spread(row["accuracy"][task]) for task in tasks),
                LOOKS_AT[name],
                *costs(row),
            ]
            for name, row in result["rows"].items()
        ],
    )


# In the order of a file, and in words.
OPERATIONS = {
    "CONV_2D": "first convolution",
    "LceQuantize": "sign",
    "LceBconv2d": "binary convolution",
    "ADD": "addition: shortcut, threshold",
    "PRELU": "activation",
    "MEAN": "global average",
    "FULLY_CONNECTED": "dense layer",
}


def file_operations(result):
    """What is in one file, a row for each kind of operation."""
    rows = result["operations"]
    total = {key: sum(row[key] for row in rows.values()) for key in COLUMNS}
    names = sorted(rows, key=[*OPERATIONS, *rows].index)
    return table(
        ["operation", "is", *COLUMNS.values()],
        [[f"`{name}`", OPERATIONS.get(name, ""), *cells(rows[name])] for name in names]
        + [["all", "", *cells(total)]],
    )


COLUMNS = {
    "operations": "how many",
    "macs": "multiplications",
    "weights": "bytes of weights",
    "maps": "bytes written",
}


def cells(row):
    return [f"{row[key]:,}" for key in COLUMNS]
