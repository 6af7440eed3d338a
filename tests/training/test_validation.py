"""Where there is a validation split, test images have no part in any choice."""

import functools
import logging
from dataclasses import replace

import larq_nobn as nobn
import pytest
from larq_nobn import training
from larq_nobn.training import _trainer
from larq_nobn.training.comparison import _compare
from training.commands import executing
from training.fake_runs import leave_run


@pytest.fixture
def read(monkeypatch):
    """Which splits are loaded, in order."""
    found, batches = [], nobn.data.Dataset.batches

    @functools.wraps(batches)
    def note(dataset, split, *arguments, **options):
        found.append(split)
        return batches(dataset, split, *arguments, **options)

    monkeypatch.setattr(nobn.data.Dataset, "batches", note)
    return found


def evaluated(run, settings, split):
    size, limit = settings.batch_size, settings.limit
    images = nobn.data.load(
        split=split, batch_size=size, limit=limit, **settings.images
    )
    return training.evaluate(run.model, images)


def test_history_is_of_validation_and_test_is_read_once_at_the_end(
    tiny_settings, tmp_path, little_network, read
):
    settings = replace(tiny_settings, validation=0.3, epochs=2, limit=64)
    run = training.train(settings, tmp_path / "run")
    assert read.count("test") == 1 and read[-1] == "test"
    metrics = run.record["metrics"]
    held = evaluated(run, settings, "validation")["accuracy"]
    assert metrics["val_accuracy"] == pytest.approx(held)
    tested = evaluated(run, settings, "test")
    assert metrics["test_accuracy"] == tested["accuracy"]
    for name in ("loss", "calibration_error"):
        assert metrics[f"test_{name}"] == tested[name]
    assert run.record["history_split"] == "validation"
    assert run.record["examples"]["validation"] > 0
    again = training.load_run(tmp_path / "run")
    assert again.dataset.validation_examples == run.record["examples"]["validation"]


def test_a_run_that_was_killed_before_its_test_is_tested(
    tiny_settings, tmp_path, little_network, monkeypatch
):
    settings = replace(tiny_settings, validation=0.3, limit=64)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_trainer, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(settings, tmp_path / "run")
    run = training.train(settings, tmp_path / "run", resume=True)
    tested = evaluated(run, settings, "test")
    assert run.record["metrics"]["test_accuracy"] == tested["accuracy"]
    assert len(run.history) == settings.epochs


def leave(folder, settings, validation, test):
    leave_run(folder, settings, [validation], test_accuracy=test, test_loss=1.0)


@pytest.fixture
def leaves(monkeypatch):
    """A training leaves a run whose accuracies follow from its learning rate."""

    def train(settings, folder):
        rate = settings.learning_rate
        leave(folder, settings, 0.9 - rate, 0.5 + rate)

    monkeypatch.setattr(_compare, "_executing", executing(train))


def test_a_learning_rate_is_chosen_on_images_that_are_held_out(
    tmp_path, leaves, caplog
):
    cells = training.grid(
        ["nobn"], learning_rates=[0.001, 0.1], dataset="digits", width=8
    )
    comparison = training.compare(cells, tmp_path)
    (best,) = (g for g in comparison.groups if g.best)
    assert best.settings["learning_rate"] == 0.001
    assert {each.settings["validation"] for each in comparison.outcomes} == {0.1}
    assert "a tenth of the training images is held out" in caplog.text
    assert "No validation split to choose learning rate by" in caplog.text
    table = str(comparison)
    assert " 50.1 " in table and "chosen on the validation split" in table
    assert "test images" not in table
    again = training.compare(cells, tmp_path)
    assert again.to_dict() == comparison.to_dict()
    # One that is there is taken.
    caplog.clear()
    cells = {name: replace(cell, validation=0.25) for name, cell in cells.items()}
    comparison = training.compare(cells, tmp_path / "own")
    assert {each.settings["validation"] for each in comparison.outcomes} == {0.25}
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
