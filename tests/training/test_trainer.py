"""A training in steps: built, fitted, saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from larq_nobn import data, training
from training.runs import (
    Stop,
    StopAt,
    assert_same,
    with_little_network,
    without_curves,
)

SETTINGS = training.RunSettings(
    "plain", dataset="digits", width=4, blocks=(1,), epochs=2, batch_size=32, limit=32
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> training.Run:
    with with_little_network(), without_curves():
        return training.train(SETTINGS, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.usefixtures("little_network")
def test_the_steps_one_by_one_equal_train(
    whole: training.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    set_up: list[str] = []

    def batches(self: data.Dataset, split: str, *arguments, **options):
        set_up.append(split)
        return whole_batches(self, split, *arguments, **options)

    whole_batches = data.Dataset.batches
    monkeypatch.setattr(data.Dataset, "batches", batches)
    trainer = training.Trainer(SETTINGS, output=tmp_path / "steps")
    network = trainer.build()
    initial = network.get_weights()
    assert network is trainer.network and not (tmp_path / "steps").exists()
    history = trainer.fit()
    assert [row["epoch"] for row in history] == [1, 2]
    assert set_up == ["train", "test"]  # which takes longer than a few steps
    assert not all(map(np.array_equal, initial, network.get_weights()))
    assert not (tmp_path / "steps" / "run.json").exists()
    with pytest.raises(training.RunInUse):
        training.Trainer(SETTINGS, output=tmp_path / "steps", resume=True).fit()
    run = trainer.save()
    assert run.model is network and run.history == history
    assert_same(run, whole)
    assert run.record.keys() == whole.record.keys()
    for name in ("settings", "preprocessing", "examples", "parameters"):
        assert run.record[name] == whole.record[name]
    files = [sorted(each.name for each in one.folder.iterdir()) for one in (run, whole)]
    assert files[0] == files[1]
    assert_same(training.load_run(run.folder), whole)


def test_nothing_is_saved_untrained(tmp_path: Path):
    trainer = training.Trainer(SETTINGS, output=tmp_path / "run")
    with pytest.raises(RuntimeError, match=r"the network is not trained. Call fit\(\)"):
        trainer.save()
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("little_network")
def test_after_a_failure_it_starts_from_the_checkpoint(
    whole: training.Run, tmp_path: Path
):
    stop = StopAt(1)
    trainer = training.Trainer(
        SETTINGS, output=tmp_path / "run", progress=stop, resume=True
    )
    with pytest.raises(Stop):
        trainer.fit()
    assert trainer.network is None
    stop._epoch = 9
    trainer.fit()
    assert stop.begun == [0, 1, 1]
    assert_same(trainer.save(), whole)


RNG = np.random.default_rng(0)


PARTS = tuple(
    (RNG.integers(0, 256, (n, 6, 6, 1), np.uint8), np.arange(n) % 3) for n in (40, 20)
)


@pytest.mark.usefixtures("little_network")
def test_a_data_set_object_of_arrays(tmp_path: Path):
    own = data.Dataset.from_data(PARTS)
    trainer = training.Trainer(SETTINGS, own, output=tmp_path / "own")
    assert trainer.dataset is own and trainer.config.dataset == "given"
    assert trainer.build().input_shape == (None, 6, 6, 1)


def test_what_is_there_is_found_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "notes.txt").touch()
    monkeypatch.setattr(training.Trainer, "build", lambda self: pytest.fail("built"))
    with pytest.raises(FileExistsError, match="is not empty"):
        training.train(SETTINGS, tmp_path)
