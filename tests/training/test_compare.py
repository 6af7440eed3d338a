"""Grids of runs: what is trained, what is not trained again, what is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from larq_nobn import training
from larq_nobn.training import RunSettings, _compare, grid
from training.commands import executing
from training.fake_runs import leave_run

SHARED = {"dataset": "digits", "width": 4, "blocks": (1,), "epochs": 2, "limit": 64}
# By normalization, then by seed.
REACHED = {"none": [0.2, 0.3], "nobn": [0.5, 0.4]}


class Trainings:
    """Stands in for the trainings of commands."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.stopped_at = ""

    def train(self, settings: RunSettings, output: Path) -> str | None:
        if output.name == self.stopped_at:
            raise KeyboardInterrupt
        self.trained.append(output.name)
        if settings.learning_rate > 1:
            return "a warning\nError: The loss is not finite at epoch 1, step 2.\n"
        reached = REACHED[settings.normalization][settings.seed]
        leave_run(output, settings, [reached / 2, reached])
        return None


Execute = Callable[[Callable], None]


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Has a function take the place of trainings."""
    return lambda train: monkeypatch.setattr(_compare, "_executing", executing(train))


@pytest.fixture
def trainings(execute: Execute) -> Trainings:
    fake = Trainings()
    execute(fake.train)
    return fake


def test_a_grid_has_every_combination(tmp_path: Path):
    cells = grid(["batch_norm", "nobn"], [0, 3], [2, 128], **SHARED)
    assert list(cells) == [
        f"{normalization}-{size}-{seed}"
        for normalization in ("batch_norm", "nobn")
        for size in (2, 128)
        for seed in (0, 3)
    ]
    settings = cells["nobn-2-3"]
    assert (settings.normalization, settings.batch_size) == ("nobn", 2)
    assert (settings.recipe, settings.width, settings.seed) == ("nobn", 4, 3)
    assert cells["batch_norm-2-0"].recipe == "batch_norm"
    # Further lists are part of the name.
    cells = grid(["nobn"], learning_rates=[0.001, 0.01], recipes=["plain", "nobn"])
    assert "nobn-plain-128-0.001-0" in cells
    assert cells["nobn-nobn-128-0.01-0"].learning_rate == 0.01
    # From a network it is of that network.
    (settings,) = grid(init=str(tmp_path), batch_sizes=[8]).values()
    assert (settings.model, settings.normalization) == ("init", None)
    assert settings.recipe == "plain"
    with pytest.raises(ValueError, match="normalization='nobn' cannot change the"):
        grid(["nobn"], init=str(tmp_path))


def test_what_is_finished_is_not_trained_again(tmp_path: Path, trainings: Trainings):
    cells = grid(["none", "nobn"], [0, 1], **SHARED)
    trainings.stopped_at = "none-128-1"
    with pytest.raises(KeyboardInterrupt):
        training.compare(cells, tmp_path)
    assert trainings.trained == ["none-128-0"]
    trainings.stopped_at = ""
    first = training.compare(cells, tmp_path)
    assert trainings.trained == list(cells)
    shutil.rmtree(tmp_path / "nobn-128-1")
    again = training.compare(cells, tmp_path)
    assert trainings.trained == [*cells, "nobn-128-1"]
    assert again.to_dict() == first.to_dict()


def test_all_runs_are_looked_at_before_the_first_training(
    tmp_path: Path, trainings: Trainings
):
    cells = grid(["none", "nobn"], [0], **SHARED)
    leave_run(tmp_path / "nobn-128-0", replace(cells["nobn-128-0"], epochs=7), [0.1])
    file = tmp_path / "a"
    file.touch()
    before = sorted(tmp_path.rglob("*"))
    for wrong, place, options, error, sentence in (
        (cells, tmp_path, {}, ValueError, "a run with epochs=7, but epochs=2 was"),
        (cells, file, {}, NotADirectoryError, "is a file, but a comparison needs"),
        ({}, tmp_path / "grid", {}, ValueError, "nothing to compare. Give one run or"),
        (cells, tmp_path / "grid", {"jobs": 0}, ValueError, "jobs=0 is below 1. Leave"),
    ):
        with pytest.raises(error, match=sentence):
            training.compare(wrong, place, **options)
    assert sorted(tmp_path.rglob("*")) == before
    assert trainings.trained == []


def test_a_run_that_diverges_is_noted_and_the_others_are_trained(
    tmp_path: Path, trainings: Trainings
):
    shared = {"learning_rates": [0.003], "validation": 0.1, **SHARED}
    cells = grid(["none", "nobn"], [0, 1], **shared)
    cells["none-128-0.003-1"] = replace(cells["none-128-0.003-1"], learning_rate=2.0)
    comparison = training.compare(cells, tmp_path)
    assert trainings.trained == list(cells)
    failures = [each.failure for each in comparison.outcomes]
    assert failures == [None, "The loss is not finite at epoch 1, step 2.", None, None]
    written = json.loads((tmp_path / "compare.json").read_text())
    failed = {tuple(group["failed"]) for group in written["groups"]}
    assert failed == {(), (str(tmp_path / "none-128-0.003-1"),)}
    assert written["runs"][1]["failure"] == failures[1]
    # It is not finished, so the next call tries it again.
    trainings.trained.clear()
    training.compare(cells, tmp_path)
    assert trainings.trained == ["none-128-0.003-1"]


def test_a_learning_rate_is_chosen_on_images_that_are_held_out(
    tmp_path: Path, execute: Execute
):
    def leave(settings: RunSettings, folder: Path) -> None:
        rate = settings.learning_rate
        leave_run(folder, settings, [0.9 - rate], test_accuracy=0.5 + rate)

    execute(leave)
    rates = {"learning_rates": [0.001, 0.1], "dataset": "digits", "width": 8}
    with pytest.raises(ValueError, match="learning rate on the test images: there"):
        training.compare(grid(["nobn"], **rates), tmp_path)
    assert not list(tmp_path.iterdir())
    cells = grid(["nobn"], **rates, validation=0.25)
    comparison = training.compare(cells, tmp_path)
    (best,) = (g for g in comparison.groups if g.best)
    assert best.settings["learning_rate"] == 0.001
    table = str(comparison)
    assert " 50.1 " in table and "chosen on the validation split" in table
    assert "test images" not in table
    assert training.compare(cells, tmp_path).to_dict() == comparison.to_dict()


@pytest.mark.parametrize(
    "settings",
    [
        RunSettings.from_recipe("batch_norm", kernel=None, ema=0.9),
        RunSettings.from_recipe("nobn", dataset="imagenet", optimizer="sgd"),
        RunSettings(
            "plain", image_size=(8, 16), blocks=(2, 3), width=8, limit=7, seed=3
        ),
        RunSettings(
            "plain", network={"alpha": 0.25, "variance_rule": "vita", "balanced": True}
        ),
        RunSettings("plain", dataset="tfds:a", data_dir="-x", teacher="train"),
        RunSettings.from_recipe("fine_tune", init="-a/b.keras"),
    ],
    ids=range(6),
)
def test_a_command_trains_what_the_settings_say(
    settings: RunSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    execute: Execute,
):
    monkeypatch.chdir(tmp_path)
    actual: list[tuple] = []
    execute(lambda *said: actual.append(said) or "Error: It is not trained.")
    training.compare({"-a": settings}, "-runs")
    assert actual == [(settings, Path("-runs/-a"))]
    command = _compare.train_command(tmp_path, trust=True, imports=("colorsys", "json"))
    assert command[-3:] == ["--trust", "--import=colorsys", "--import=json"]
