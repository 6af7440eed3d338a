"""Checkpoints within an epoch: any step is one to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.training._checkpoints import CheckpointSchedule, Position, position_kept
from training.runs import assert_same

SETTINGS = training.RunSettings(
    dataset="digits", epochs=2, batch_size=4, limit=16, schedule="cosine"
)
STEPS, EVERY = 4, 2
pytestmark = pytest.mark.usefixtures("little_network")


class Killed(BaseException):
    """Stands for the end of the process."""


class KillAt(keras.callbacks.Callback):
    """Ends a run after a step, and notes all steps."""

    def __init__(self, epoch: int = -1, batch: int = -1) -> None:
        super().__init__()
        self._end = (epoch, batch)
        self._epoch = 0
        self.seen: list[tuple[int, int]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        self.seen.append((self._epoch, batch))
        if self.seen[-1] == self._end:
            raise Killed


@pytest.mark.slow
def test_killed_at_any_step(tmp_path: Path):
    # Nothing is written within the epochs of the one, and often in the other.
    settings = replace(SETTINGS, late_penalty=0.01)
    whole = training.train(settings, tmp_path / "whole")
    folder = tmp_path / "killed"
    begin = 0
    for step in (1, 6):
        watch = KillAt(*divmod(step, STEPS))
        with pytest.raises(Killed):
            training.train(settings, folder, watch, resume=True, checkpoint_steps=EVERY)
        assert watch.seen == [divmod(each, STEPS) for each in range(begin, step + 1)]
        # The killed step itself is after no checkpoint yet.
        epochs, done = divmod(step, STEPS)
        begin = epochs * STEPS + done // EVERY * EVERY
        kept = position_kept(folder)
        assert kept == (None if begin == 0 else Position(*divmod(begin, STEPS)))
    run = training.train(settings, folder, resume=True, checkpoint_steps=EVERY)
    assert_same(run, whole)
    # Of eight steps the last ones have it, in the second epoch.
    assert [row["penalty"] > 0 for row in run.history] == [False, True]
    names = {path.name for path in whole.folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == names


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets what the clocks say."""

    def set_to(now: float) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: now)

    set_to(1000.0)
    return set_to


def test_when_one_is_due(clock: Callable[[float], None]):
    """Every ten minutes, or every few steps."""
    pace = CheckpointSchedule(None, tf.distribute.get_strategy())
    due = []
    for now in (1000.0, 1599.9, 1600.0, 1700.0):
        clock(now)
        due.append(pace.is_due(1))
    assert due == [False, False, True, True]
    pace.written()
    assert not pace.is_due(2)
    clock(2300.0)
    assert pace.is_due(3)
    pace = CheckpointSchedule(4, tf.distribute.get_strategy())
    clock(9000.0)
    assert [step for step in range(1, 12) if pace.is_due(step)] == [4, 8]
