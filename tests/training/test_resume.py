"""A run that was stopped and goes on ends like one that was not, bitwise identical."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from larq_nobn import training
from larq_nobn._keras import keras
from training.runs import Stop, assert_same

TINY = training.RunSettings(
    dataset="digits", width=4, blocks=(1,), epochs=2, batch_size=32, limit=32
)


class _StopInStage(keras.callbacks.Callback):
    """Stops in the second epoch of a stage, counting from 0."""

    def __init__(self, stage: int) -> None:
        super().__init__()
        self._stage = stage
        self._begun = -1

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._begun += 1

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (self._begun, epoch) == (self._stage, 1):
            raise Stop


@pytest.mark.slow
@pytest.mark.usefixtures("little_network")
def test_two_stages(tmp_path: Path):
    settings = replace(TINY, stages=2)
    whole = training.train(settings, tmp_path / "whole")
    folder = tmp_path / "resumed"
    # In the second stage of the second attempt.
    for stage in (0, 1):
        with pytest.raises(Stop):
            training.train(settings, folder, _StopInStage(stage), resume=True)
        assert (folder / "stage1" / "run.json").exists() == (stage == 1)
        assert training.epochs_kept(folder) == 1
    run = training.train(settings, folder, resume=True)
    assert_same(run, whole)
    stages = [training.load_run(each / "stage1") for each in (folder, whole.folder)]
    assert_same(*stages)


def test_a_finished_run_is_returned_as_it_is(tiny_run: training.Run):
    settings = training.RunSettings(**tiny_run.record["settings"])
    files = {path: path.read_bytes() for path in tiny_run.folder.glob("*.*")}
    run = training.train(settings, tiny_run.folder, resume=True)
    assert_same(run, tiny_run)
    assert {path: path.read_bytes() for path in tiny_run.folder.glob("*.*")} == files
    with pytest.raises(ValueError, match="with seed=0, but seed=1 was given"):
        training.train(replace(settings, seed=1), tiny_run.folder, resume=True)
