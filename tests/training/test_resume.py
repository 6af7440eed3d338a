"""A run that was stopped and goes on ends like one that was not, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from larq_nobn import training
from larq_nobn._keras import keras
from training.runs import assert_same

TINY = training.RunSettings(
    dataset="digits", width=4, blocks=(1, 1), epochs=2, batch_size=32, limit=96
)


class Stop(Exception):
    """Stands for whatever ends a run."""


class _StopAt(keras.callbacks.Callback):
    """Stops in the middle of an epoch, counting from 0."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch
        self.begun: list[int] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.begun.append(epoch)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        if self.begun[-1] == self._epoch and batch == 1:
            raise Stop


def stop_and_resume(
    settings: training.RunSettings, folder: Path, *epochs: int
) -> training.Run:
    """Runs with a stop in each of these epochs, and then to the end."""
    for epoch in epochs:
        with pytest.raises(Stop):
            training.train(settings, folder, _StopAt(epoch), resume=True)
    watcher = _StopAt(settings.epochs)
    run = training.train(settings, folder, watcher, resume=True)
    assert watcher.begun == list(range(epochs[-1], settings.epochs))
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_factor": 0.02},
        {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.05, "clip_factor": 0},
        {"normalization": "batch_norm", "kernel": "recu", "schedule": "cosine"},
        {"normalization": "independent_component"},
    ],
    ids=["adam_agc", "sgd_momentum", "recu_batch_norm", "independent_component"],
)
def test_resumed_equals_undisturbed(changes: dict[str, object], tmp_path: Path):
    settings = replace(TINY, **changes)
    whole = training.train(settings, tmp_path / "whole")
    assert_same(stop_and_resume(settings, tmp_path / "resumed", 1), whole)
