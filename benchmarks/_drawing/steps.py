"""A network built step by step: its accuracy, its pre-activations, and its file."""

from __future__ import annotations

from .markdown import coded, described, number, spread, table

# The rows of own_network.py in words; each step keeps those before it.
STEPS = {
    "plain": "binary convolutions in a row",
    "shortcuts": "+ a shortcut around each",
    "scaled kernels": "+ `ScaledStdSign` kernels",
    "shifts": "+ `RSign` and `RPReLU`",
    "calibration": "+ `calibrate`",
    "clipping": "+ gradient clipping",
    "batch norm": "shortcuts and batch norm instead",
}
FORMS = {
    "shortcuts": "nothing",
    "batch norm": "batch norm",
    "clipping": "without batch norm",
}
STATES = {"fresh": "before training", "trained": "after training"}


def own_network(result):
    accuracies = {
        task: lambda row, task=task: spread(row["accuracy"][task])
        for task in result["tasks"]
    }
    file = {
        "binary": lambda row: row["file"]["binary"],
        "float operations": lambda row: row["file"]["float_ops"],
        "kB": lambda row: f"{row['file']['bytes'] / 1e3:.1f}",
    }
    rows = {STEPS[name]: row for name, row in result["rows"].items()}
    return described(rows, accuracies | file)


def pre_activations(result):
    """First and last sign of each form, before and after training."""
    parts = {
        "standard deviation": ("deviation", "{:.1f}"),
        "mean / std": ("offset", "{:.2f}"),
        "in [-1, 1]": ("window", "{:.0%}"),
        "constant": ("stuck", "{:.0%}"),
    }
    return table(
        ["", "", *parts],
        [
            [
                FORMS[name] if state == states(name)[0] else "",
                STATES[state],
                *(ends(signs[state], *part) for part in parts.values()),
            ]
            for name in FORMS
            for signs in [result["rows"][name]["before_signs"]]
            for state in states(name)
        ],
    )


def states(name):
    """Fresh batch norm has seen no batch, so that at inference it does nothing yet."""
    return ["trained"] if name == "batch norm" else list(STATES)


def ends(layers, key, form):
    """The first layer's number and the last one's."""
    return " → ".join(form.format(layers[place][key]) for place in (0, -1))


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
COUNTS = {
    "operations": "how many",
    "macs": "multiplications",
    "weights": "bytes of weights",
    "maps": "bytes written",
}


def file_operations(result):
    """What is in one file, a row for each kind of operation."""
    given = result["operations"]
    names = sorted(given, key=[*OPERATIONS, *given].index)
    rows = {name: {"is": OPERATIONS.get(name, ""), **given[name]} for name in names}
    total = {key: sum(row[key] for row in given.values()) for key in COUNTS}
    columns = {title: number(key, "{:,}") for key, title in COUNTS.items()}
    columns = {"is": lambda row: row["is"], **columns}
    return described({**coded(rows), "all": {"is": "", **total}}, columns, "operation")
