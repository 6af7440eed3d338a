"""A network built step by step, and its pre-activations."""

from __future__ import annotations

from .markdown import spread, table

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
COMPARED = ("shortcuts", "batch norm", "clipping")
FORMS = {
    "shortcuts": "nothing",
    "batch norm": "batch norm",
    "clipping": "without batch norm",
}
STATES = {"fresh": "before training", "trained": "after training"}


def own_network(result):
    rows = result["rows"]
    return table(
        ["", *result["tasks"], "binary", "float operations", "kB"],
        [
            [
                STEPS[name],
                *map(spread, row["accuracy"].values()),
                row["file"]["binary"],
                row["file"]["float_ops"],
                f"{row['file']['bytes'] / 1e3:.1f}",
            ]
            for name, row in rows.items()
        ],
    )


def pre_activations(result):
    """First and last sign of each form, before and after training."""
    head = ["", "", "standard deviation", "mean / std", "in [-1, 1]", "constant"]
    return table(
        head,
        [
            [
                FORMS[name] if state == states(name)[0] else "",
                STATES[state],
                ends(signs[state], "deviation", "{:.1f}"),
                ends(signs[state], "offset", "{:.2f}"),
                ends(signs[state], "window", "{:.0%}"),
                ends(signs[state], "stuck", "{:.0%}"),
            ]
            for name in COMPARED
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
