"""Cells of a grid in processes of their own."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import fresh
import numpy as np
import pytest
from larq_nobn import training
from larq_nobn._keras import keras
from larq_nobn.training import RunSettings
from larq_nobn.training.comparison._outcomes import Outcome
from larq_nobn.training.comparison._processes import in_processes
from training.fake_runs import task
from training.runs import assert_same


@pytest.fixture(scope="module", autouse=True)
def _server():
    fresh.begin()


class Note(keras.callbacks.Callback):
    """Writes down what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.told.append("begin")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.told.append(epoch)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        self.told.append(f"batch {batch} of {self.params['steps']}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.told.append(logs)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.told.append("end")


def cells(folder: Path, *seeds: int) -> dict[str, tuple[RunSettings, Path]]:
    return {
        f"{place}": (RunSettings(seed=seed), folder / f"{place}")
        for place, seed in enumerate(seeds)
    }


def test_each_has_a_process_and_is_heard_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    notes: list[Note] = []
    found: dict[str, Outcome | None] = {}

    def watch(name: str, settings: RunSettings) -> Note:
        # Of two at a time, the third begins when one is over.
        assert len(notes) - len(found) < 2
        notes.append(Note())
        return notes[-1]

    for name, outcome in in_processes(task, cells(tmp_path, 0, 3, 0), watch, 2):
        found[name] = outcome
    assert sorted(found) == ["0", "1", "2"]
    assert found["1"] is None
    processes = {each.folder for each in found.values() if each is not None}
    assert len(processes) == 2 and str(os.getpid()) not in processes
    assert [note.told for note in notes] == [
        ["begin", 0, "batch 0 of 9", {"loss": 0.5}, "end"],
        [],
        ["begin", 0, "batch 0 of 9", {"loss": 0.5}, "end"],
    ]
    assert {"0: 7 images", "2: 7 images"} <= set(caplog.messages)


@pytest.mark.parametrize(
    ("seed", "kind", "message"),
    [
        (1, ValueError, "0 is wrong."),
        (4, RuntimeError, "Unsent: .*0/x is odd."),
    ],
    ids=["raises", "cannot be sent"],
)
def test_its_end_is_that_of_all(
    seed: int, kind: type[Exception], message: str, tmp_path: Path
):
    # The other one would wait for ever.
    with pytest.raises(kind, match=message):
        list(in_processes(task, cells(tmp_path, seed, 5), None, 2))
    assert not list(tmp_path.iterdir())


def test_the_others_go_on_where_one_is_killed(tmp_path: Path):
    notes: list[Note] = []

    def watch(name: str, settings: RunSettings) -> Note:
        notes.append(Note())
        return notes[-1]

    found = dict(in_processes(task, cells(tmp_path, 2, 0, 2, 0), watch, 2))
    assert sorted(found) == ["0", "1", "2", "3"]
    for name in ("0", "2"):
        outcome = found[name]
        assert outcome is not None and outcome.folder == str(tmp_path / name)
        assert outcome.settings["seed"] == 2
        assert outcome.failure == (
            "Its process ended with exit code -9. See whether memory was short, with "
            "fewer --jobs then; the same command goes on."
        )
        assert notes[int(name)].told == ["end"]
    for name in ("1", "3"):
        assert (tmp_path / name / "run.json").is_file()


@pytest.mark.slow
def test_two_at_a_time_train_what_one_process_does(
    tmp_path: Path, tiny_run: training.Run, tiny_settings: RunSettings
):
    grid = {
        "again": tiny_settings,
        "other": replace(tiny_settings, seed=1, epochs=1),
        "there": tiny_settings,
    }
    shutil.copytree(tiny_run.folder, tmp_path / "there")
    comparison = training.compare(grid, tmp_path, jobs=2)
    assert [Path(each.folder).name for each in comparison.outcomes] == list(grid)
    assert_same(training.load_run(tmp_path / "again"), tiny_run)
    assert [row["epoch"] for row in comparison.outcomes[1].history] == [1]
    # Of another seed is the kernel of the stem too: all else may start from constants.
    other = training.load_run(tmp_path / "other").model.get_weights()[0]
    assert np.abs(other - tiny_run.model.get_weights()[0]).max() > 0.1
