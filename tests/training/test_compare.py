"""Grids of runs: what is trained, what is not trained again, what is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from larq_nobn import training
from larq_nobn.training import RunSettings, grid
from larq_nobn.training.comparison import _compare
from training.commands import executing, settings_of
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


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    fake = Trainings()
    monkeypatch.setattr(_compare, "_executing", executing(fake.train))
    return fake


def test_a_grid_has_every_combination():
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


def test_a_grid_from_a_network_is_of_that_network(tmp_path: Path):
    cells = training.grid(init=str(tmp_path), seeds=[0, 1], batch_sizes=[8])
    assert list(cells) == ["8-0", "8-1"]
    for settings in cells.values():
        assert (settings.model, settings.normalization) == ("init", None)
        assert settings.recipe == "plain"
    cells = training.grid(["nobn"], init=str(tmp_path), model="BiRealNet18")
    assert cells["nobn-128-0"].model == "BiRealNet18"
    with pytest.raises(ValueError, match="normalization='nobn' does not apply to the"):
        training.grid(["nobn"], init=str(tmp_path))


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
    last = tmp_path / "nobn-128-0"
    last.mkdir()
    (last / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"nobn-128-0 contains notes\.txt"):
        training.compare(cells, tmp_path)
    (last / "notes.txt").unlink()
    leave_run(last, replace(cells["nobn-128-0"], epochs=7), [0.1])
    with pytest.raises(ValueError, match="a run with epochs=7, but epochs=2 was"):
        training.compare(cells, tmp_path)
    assert trainings.trained == []


def test_a_run_that_diverges_is_noted_and_the_others_are_trained(
    tmp_path: Path, trainings: Trainings
):
    cells = grid(["none", "nobn"], [0, 1], learning_rates=[0.003], **SHARED)
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


def test_what_is_no_comparison(tmp_path: Path):
    one, file = grid(["nobn"]), tmp_path / "file"
    file.touch()
    for cells, place, options, error, sentence in (
        (one, file, {}, NotADirectoryError, "is a file, but a comparison needs"),
        ({}, tmp_path / "grid", {}, ValueError, "nothing to compare. Give one run or"),
        (one, tmp_path / "grid", {"jobs": 0}, ValueError, "jobs=0 is below 1. Leave"),
    ):
        with pytest.raises(error, match=sentence):
            training.compare(cells, place, **options)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "settings",
    [
        RunSettings.from_recipe("nobn", kernel=None),
        RunSettings.from_recipe(
            "batch_norm", kernel="sigmoid_sign", learning_rate=0.003
        ),
        RunSettings.from_recipe("nobn", dataset="imagenet", reflect=True),
        RunSettings(image_size=(8, 16), blocks=(2, 3), width=8, limit=7, seed=3),
        RunSettings(network={"alpha": 0.25, "variance_rule": "vita", "balanced": True}),
        RunSettings(dataset="-/images", data_dir="-x", teacher="train"),
        RunSettings.from_recipe("fine_tune", init="-a/b.keras"),
    ],
    ids=str,
)
def test_a_command_trains_what_the_settings_say(settings: RunSettings):
    for trust, imports in ((False, ()), (True, ("colorsys", "json"))):
        command = _compare.train_command(settings, Path("runs/-a"), trust, imports)
        found, output, options = settings_of(command)
        assert (found, output) == (settings, Path("runs/-a"))
        assert (options["trust"], options["resume"]) == (trust, True)
        found = [word for word in command if word.startswith("--import")]
        assert found == [f"--import={module}" for module in imports]
