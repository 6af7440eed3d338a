"""Levers for long trainings: what was measured of them, and the jobs of the others."""

from __future__ import annotations

from .accuracy import BOTH, of_runs, seeds
from .markdown import table

SIZE = {"batch_size": 128, "stages": 1}


def jobs(prepared, finished):
    """A row for each job, with accuracies where its runs are in the log."""
    return table(
        ["lever", "change", "data, width", *(f"`{n}`" for n in BOTH), "job", "GPU"],
        [
            [
                job["lever"],
                job["change"],
                place(prepared, job),
                *(reached(finished, name, job) for name in BOTH),
                f"`{job['name']}`",
                f"{minutes(prepared, job):.0f} min",
            ]
            for job in prepared["jobs"]
        ],
    )


def reasons(prepared):
    """Why each job is not a row, in the order of their value."""
    return "\n".join(f"1. `{job['name']}`: {job['reason']}" for job in prepared["jobs"])


def place(prepared, job):
    settings = {**prepared["shared"], **job["settings"]}
    data = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
    epochs = "+".join([str(settings["epochs"])] * settings.get("stages", 1))
    name = data[settings.get("dataset", "cifar10")]
    return f"{name}, {settings['width']}, {epochs} epochs"


def reached(finished, name, job):
    found = of_runs(finished, f"{name}_{job['name']}", "val_accuracy")
    if name not in job["of"]:
        return "does not apply"
    return seeds([100 * each for each in found]) if found else "not run"


def minutes(prepared, job):
    """Of all runs one after the other; a step of fewer images takes no less time."""
    settings = {**SIZE, **prepared["shared"], **job["settings"]}
    per_epoch = prepared["seconds_per_epoch"]
    epochs = settings["epochs"] * settings["stages"] * len(prepared["seeds"])
    once = sum(per_epoch[name][str(settings["width"])] for name in job["of"])
    return once * epochs * SIZE["batch_size"] / settings["batch_size"] / 60
