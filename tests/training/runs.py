"""Runs that are compared with each other."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from larq_nobn import training

# What a clock or the system says.
_MEASURED = ("seconds", "images_per_second", "peak_")


def history_of(folder: Path) -> list[dict[str, str]]:
    """The rows of `history.csv`, without what is measured anew each time."""
    with (folder / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        {name: row[name] for name in row if not name.startswith(_MEASURED)}
        for row in rows
    ]


def assert_same(ours: training.Run, theirs: training.Run) -> None:
    """Weights, state of the optimizer and history are equal bit for bit."""
    states = [
        [*run.model.weights, *run.model.optimizer.variables] for run in (ours, theirs)
    ]
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), a.name)
    assert history_of(ours.folder) == history_of(theirs.folder)
