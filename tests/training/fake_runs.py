"""Runs whose accuracies are known, without a training."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from larq_nobn._keras import keras
from larq_nobn.training import NonFiniteLoss, Outcome, RunSettings


def leave_run(
    folder: Path,
    settings: RunSettings,
    accuracies: Sequence[float],
    seconds: Sequence[float] | None = None,
    **metrics: float,
) -> None:
    """Writes what a finished run leaves, but for its model."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "settings": asdict(settings),
        "metrics": {"val_accuracy": accuracies[-1], "val_loss": 1.0, **metrics},
        "versions": {"larq_nobn": "0.1.0"},
    }
    lines = ["epoch,val_accuracy,seconds"]
    times = [1.0] * len(accuracies) if seconds is None else seconds
    for epoch, (accuracy, time) in enumerate(zip(accuracies, times, strict=True), 1):
        lines.append(f"{epoch},{float(accuracy)!r},{float(time)!r}")
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    (folder / "run.json").write_text(json.dumps(record))


def task(
    settings: RunSettings, folder: Path, progress: keras.callbacks.Callback | None
) -> Outcome | None:
    """What a process does in the place of a training; the seed says how it ends."""
    assert progress is not None
    if settings.seed == 1:
        raise ValueError(f"{folder} is wrong.")
    if settings.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.seed == 3:
        return None
    if settings.seed == 4:
        raise Unsent(folder, "x")
    if settings.seed == 5:
        signal.pause()
    logging.getLogger("larq_nobn").warning("%d images", 7)
    progress.set_params({"steps": 9})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    for batch in range(9):
        progress.on_train_batch_end(batch)
    progress.on_epoch_end(0, {"loss": 0.5})
    progress.on_train_end()
    leave_run(folder, settings, [0.1 * settings.seed])
    return Outcome(str(os.getpid()), {})


class Unsent(NonFiniteLoss):
    """One that can be pickled, but not unpickled."""

    def __init__(self, folder: Path, other: str) -> None:
        super().__init__(f"{folder}/{other} is odd.")
