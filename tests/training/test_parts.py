"""Runs that need others before them: a first stage, a teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.training._run_settings import NETWORKS
from numpy.testing import assert_allclose
from training.runs import (
    Stop,
    StopAt,
    assert_same,
    little,
    with_little_network,
    without_curves,
)

TINY = training.RunSettings.from_recipe(
    "plain", dataset="digits", width=4, blocks=(1,), epochs=1, batch_size=32, limit=32
)
# So slow that the second stage is still where the first one ended.
TAUGHT_IN_TWO = replace(
    TINY, epochs=2, stages=2, teacher="train", learning_rate=1e-12, stage_one_decay=1e-3
)
Resumed = tuple[training.Run, list[str], training.Run]


def settings_in(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())["settings"]


class StopInPart(keras.callbacks.Callback):
    """Stops in the second epoch of one of the trainings of a run."""

    def __init__(self, part: int) -> None:
        super().__init__()
        self._part = part
        self._begun = -1

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._begun += 1

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (self._begun, epoch) == (self._part, 1):
            raise Stop


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    """A taught run of two stages that was stopped in each of them, and went on.

    With it, the names of the folders that were trained, in their order, and the same
    run without a stop.
    """
    folder = tmp_path_factory.mktemp("parts")
    fitted = []
    fit = training.Trainer.fit

    def noted(trainer):
        fitted.append(trainer.output.name)
        return fit(trainer)

    with with_little_network(), without_curves(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "FloatResNet", little)
        whole = training.train(TAUGHT_IN_TWO, folder / "whole")
        patch.setattr(training.Trainer, "fit", noted)
        for _ in range(2):  # the teacher is trained by the first attempt alone
            stop = StopInPart(1)
            with pytest.raises(Stop):
                training.train(TAUGHT_IN_TWO, folder / "run", stop, resume=True)
        run = training.train(TAUGHT_IN_TWO, folder / "run", resume=True)
    return run, fitted, whole


@pytest.mark.slow
def test_a_run_of_parts_resumes_in_each_of_them(resumed: Resumed):
    run, fitted, whole = resumed
    assert fitted == ["teacher", "stage1", "stage1", "run", "run"]
    assert_same(run, whole)
    for name in ("teacher", "stage1"):
        ours, theirs = (training.load_run(x.folder / name) for x in (run, whole))
        assert_same(ours, theirs)
    assert settings_in(run.folder / "teacher")["model"] == "FloatResNet"
    assert not (run.folder / "stage1" / "teacher").exists()


@pytest.mark.slow
def test_two_stages_leave_two_runs(resumed: Resumed):
    run = resumed[0]
    first = training.load_run(run.folder / "stage1")
    assert settings_in(first.folder)["network"]["binary_weights"] is False
    assert settings_in(first.folder)["weight_decay"] == 1e-3
    kept = {weight.name: weight.numpy() for weight in first.model.weights}
    for weight in run.model.trainable_weights:
        if weight.name in kept:  # but for those of the quantizer
            assert_allclose(weight.numpy(), kept[weight.name], atol=1e-9)
    quantizers = [
        m.get_layer("binary").kernel_quantizer for m in (first.model, run.model)
    ]
    assert [type(each).__name__ for each in quantizers] == ["NoneType", "ReCU"]


def test_a_teacher_may_be_a_run(tiny_run: training.Run, tmp_path: Path):
    taught = replace(TINY, teacher=str(tiny_run.folder))
    trainer = training.Trainer(taught, output=tmp_path / "taught")
    with with_little_network():
        trainer.build()
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    wanted = keras.activations.softmax(tiny_run.model(images))
    assert_allclose(trainer.model._teacher(images), wanted, rtol=1e-6)


@pytest.mark.usefixtures("little_network")
def test_a_resumed_run_has_the_teacher_that_it_started_with(tmp_path: Path):
    taught = replace(TINY, teacher=str(tmp_path / "teacher.keras"), epochs=2)
    for kernel in (1.0, 2.0):
        image = keras.Input((8, 8, 1))
        flat = keras.layers.Flatten()(image)
        initial = keras.initializers.Constant(kernel)
        logits = keras.layers.Dense(10, kernel_initializer=initial)(flat)
        training.save_model(keras.Model(image, logits), taught.teacher)
        if kernel == 1.0:
            with pytest.raises(Stop):
                training.train(taught, tmp_path / "run", StopAt(1))
    with pytest.raises(ValueError, match="teacher.keras has other weights than at the"):
        training.train(taught, tmp_path / "run", resume=True)
