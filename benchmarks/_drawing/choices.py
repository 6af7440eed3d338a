"""The table to choose a normalization by, and a file operation by operation."""

from __future__ import annotations

from .accuracy import costs
from .grids import accuracy, of_cells
from .markdown import table

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
    "dynamic_tanh": "nothing",
}


def choosing(result, methods):
    """Accuracy of each by its own recipe, and its costs, the most accurate first."""
    groups = of_cells(methods)

    def mean(name):
        return groups[name]["metrics"]["val_accuracy"]["mean"]

    titles = ("statistics of", "time", "memory", "float operations")
    return table(
        ["", "accuracy", *titles],
        [
            [
                f"`{name}`",
                accuracy(groups[name], False),
                LOOKS_AT[name],
                # With the digits that another setup would confirm: see `train_step`.
                *costs(result["rows"][name], digits=1),
            ]
            for name in sorted(result["rows"], key=mean, reverse=True)
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
