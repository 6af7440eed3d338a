"""Averaged weights, the best epoch, and the end of a training that gets no better."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.training import RunSettings, Trainer
from larq_nobn.training._callbacks import best_epoch, is_over
from larq_nobn.training._checkpoints import Checkpoints, newest_position
from training.runs import assert_same

SETTINGS = RunSettings(
    "plain",
    dataset="digits",
    epochs=3,
    batch_size=8,
    limit=24,
    validation=0.2,
    ema=0.3,
    keep="best",
    monitor="val_loss",
    # Weights that first get better and then worse.
    learning_rate=0.2,
    seed=2,
)
STEPS = 3


class Weights(keras.callbacks.Callback):
    """Notes the trained weights before the first and after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[np.ndarray]] = []

    def on_train_begin(self, logs: object = None) -> None:
        self._note()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._note()

    def _note(self) -> None:
        weights = self.model.trainable_variables
        values = [getattr(each, "latent_variable", each) for each in weights]
        self.seen.append([each.numpy() for each in values])


class Killed(BaseException):
    """Stands for the end of the process."""


class KillAt(keras.callbacks.Callback):
    """Ends a run after a step, and notes all steps."""

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self._end = (epoch, batch)
        self._epoch = 0
        self.seen: list[tuple[int, int]] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.seen.append((self._epoch, batch))
        if self.seen[-1] == self._end:
            raise Killed


@pytest.mark.usefixtures("little_network")
def test_averaged_weights_of_the_best_epoch_are_tested_and_saved(tmp_path: Path):
    watch = Weights()
    trainer = Trainer(SETTINGS, output=tmp_path / "whole", progress=watch)
    trainer.build()
    trainer.fit()
    run = trainer.save()
    losses = [row["val_loss"] for row in run.history]
    best = int(np.argmin(losses))
    assert run.record["kept_epoch"] == best + 1 == 2 < len(losses)
    assert run.record["metrics"]["val_loss"] == losses[best]
    # By their definition, up to the step after which the best epoch ended.
    averages = watch.seen[0]
    for step, weights in enumerate(watch.seen[1 : 1 + STEPS * (best + 1)], 1):
        decay = min(0.3, (1 + step) / (10 + step))
        pairs = zip(averages, weights, strict=True)
        averages = [decay * a + (1 - decay) * w for a, w in pairs]
    saved = run.model.trainable_variables
    for ours, average in zip(saved, averages, strict=True):
        latent = getattr(ours, "latent_variable", ours)
        np.testing.assert_allclose(latent.numpy(), average, rtol=1e-5, atol=1e-6)
    # What the history says is of the network that is saved, batch norm included.
    images = trainer.dataset.batches("validation", batch_size=8, limit=24)
    opened = training.open_model(run.folder)
    assert training.evaluate(opened, images)["loss"] == pytest.approx(losses[best])
    assert not list(run.folder.glob("checkpoints*"))
    # Killed within an epoch, after its best one, it resumes to the same weights.
    folder, kill = tmp_path / "killed", KillAt(2, 2)
    with pytest.raises(Killed):
        training.train(SETTINGS, folder, kill, checkpoint_steps=1)
    assert newest_position(folder) == (2, 2)
    kill = KillAt(-1, -1)
    resumed = training.train(SETTINGS, folder, kill, resume=True, checkpoint_steps=1)
    assert kill.seen == [(2, 2)]
    assert_same(resumed, run)
    assert resumed.record["metrics"] == run.record["metrics"]
    assert resumed.record["kept_epoch"] == run.record["kept_epoch"]
    names = {path.name for path in run.folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == names


def test_when_a_checkpoint_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every ten minutes, or every few steps."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    pace, steps = (Checkpoints(tmp_path, {}, every=every) for every in (None, 4))
    due = []
    for now in (1000.0, 1599.9, 1600.0, 1700.0):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        due.append(pace.is_due(1))
    assert due == [False, False, True, True]
    assert [step for step in range(1, 12) if steps.is_due(step)] == [4, 8]


class KilledLate(keras.callbacks.Callback):
    """Ends the process after the checkpoint of its last epoch."""

    def on_train_end(self, logs: object = None) -> None:
        raise Killed


@pytest.mark.usefixtures("little_network")
def test_a_training_that_stopped_early_is_not_trained_on(tmp_path: Path):
    settings = replace(SETTINGS, epochs=9, keep="last", patience=1)
    with pytest.raises(Killed):
        training.train(settings, tmp_path / "run", KilledLate())
    watch = Weights()
    run = training.train(settings, tmp_path / "run", watch, resume=True)
    losses = [row["val_loss"] for row in run.history]
    assert len(watch.seen) == 1  # no step
    assert run.record["kept_epoch"] == len(losses) < 9
    assert losses[-1] >= losses[-2]


VALUES = [
    [0.1, 0.3, 0.2, 0.3, 0.25, 0.1, 0.4],
    [0.5, 0.4, 0.4, 0.4],
    [math.nan, 0.5, math.nan, 0.5, 0.6],
    [0.3, 0.2, 0.1],
]


@pytest.mark.parametrize("monitor, patience", [("val_accuracy", 2), ("val_loss", 1)])
def test_patience_and_best_epoch_are_those_of_keras(monitor: str, patience: int):
    settings = RunSettings("plain", epochs=99, monitor=monitor, patience=patience)
    for values in VALUES:
        keras_stop = keras.callbacks.EarlyStopping(monitor, patience=patience)
        keras_stop.set_model(keras.Sequential())
        keras_stop.model.stop_training = False
        keras_stop.on_train_begin()
        history: list[dict[str, float]] = []
        for epoch, value in enumerate(values):
            history.append({"epoch": epoch + 1, monitor: value})
            keras_stop.on_epoch_end(epoch, {monitor: value})
            assert is_over(settings, history) == keras_stop.model.stop_training
            if not math.isnan(values[0]):
                assert best_epoch(settings, history) == keras_stop.best_epoch + 1
            if keras_stop.model.stop_training:
                break


def test_no_epoch_is_chosen_on_test_images(tmp_path: Path):
    settings = RunSettings("plain", dataset="digits", width=8, blocks=(1,), keep="best")
    wrong = "the epoch to save on the test images: .* --validation"
    with pytest.raises(ValueError, match=wrong):
        training.train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
