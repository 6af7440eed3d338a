"""Runs that need others before them: a first stage, a teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
from larq_nobn import training
from larq_nobn._keras import keras
from training.runs import Stop, StopAt, assert_same, step_by_step, without_curves

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

    with step_by_step(), without_curves(), pytest.MonkeyPatch.context() as patch:
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


@pytest.mark.slow
def test_two_stages_leave_two_runs(resumed: Resumed):
    run = resumed[0]
    first = training.load_run(run.folder / "stage1")
    assert settings_in(first.folder)["network"]["binary_weights"] is False
    assert settings_in(first.folder)["weight_decay"] == 1e-3
    for before, after in zip(
        first.model.get_weights(), run.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(before, after, atol=1e-9)
    first_kernel, kernel = (
        type(model.get_layer("stage1_block1_conv").kernel_quantizer).__name__
        for model in (first.model, run.model)
    )
    assert (first_kernel, kernel) == ("ScaledStandardization", "ScaledStdSign")


@pytest.mark.slow
def test_a_teacher_is_trained_first_and_one_teaches_both_stages(resumed: Resumed):
    folder = resumed[0].folder
    assert settings_in(folder / "teacher")["model"] == "FloatResNet"
    assert not (folder / "stage1" / "teacher").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("little_network")
def test_a_teacher_may_be_a_run(tiny_run: training.Run, tmp_path: Path):
    by_labels = training.train(TINY, tmp_path / "labels")
    taught = replace(TINY, teacher=str(tiny_run.folder))
    by_teacher = training.train(taught, tmp_path / "taught")
    assert not np.array_equal(
        by_labels.model.get_weights()[0], by_teacher.model.get_weights()[0]
    )


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


@pytest.mark.usefixtures("little_network")
@pytest.mark.parametrize("known", [True, False], ids=["of an epoch", "changed"])
def test_the_record_is_of_the_weights_that_are_saved(tmp_path: Path, known: bool):
    """As after `EarlyStopping(restore_best_weights=True)`."""

    class Other(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None):
            if epoch == 0:
                self.first = self.model.get_weights()
            elif known:
                self.model.set_weights(self.first)
            else:
                self.model.set_weights([0.5 * w for w in self.first])

    settings = replace(TINY, epochs=2, learning_rate=0.1, limit=64)
    run = training.train(settings, tmp_path / "run", Other())
    images = nobn.data.load("digits", "test", batch_size=32, limit=64)
    wanted = training.evaluate(training.open_model(tmp_path / "run"), images)
    found = run.record["metrics"]
    for name in ("loss", "accuracy"):
        assert found[f"test_{name}"] == pytest.approx(wanted[name], rel=1e-5)
        assert found[f"val_{name}"] == pytest.approx(wanted[name], rel=1e-5)
    assert (found["loss"] == run.history[0]["loss"]) is known
