"""The run folder: what it holds, and that nothing is left when a run fails."""

from __future__ import annotations

import csv
import functools
import json
import platform
import re
import sys
from dataclasses import replace
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.optimizers import AdaptiveGradientClipping
from larq_nobn.training import _run_folder, _trainer
from training.runs import assert_same, with_little_network

DRAW_CURVES = _run_folder.draw_curves


def test_the_folder_contains_what_it_should(tiny_run: training.Run):
    names = {path.name for path in tiny_run.folder.iterdir()}
    assert names == {"model.keras", "history.csv", "run.json", "logs", "curves.png"}
    assert list(tiny_run.folder.glob("logs/train/events.out.tfevents.*"))
    assert list(tiny_run.folder.glob("logs/validation/events.out.tfevents.*"))
    assert (tiny_run.folder / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_history_has_a_row_per_epoch(tiny_run: training.Run):
    with (tiny_run.folder / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == [
        "epoch",
        "loss",
        "accuracy",
        "test_loss",
        "test_accuracy",
        "images_per_second",
        "flip_ratio",
        "dead_weight_ratio",
        "clipped_share",
        "peak_memory_mib",
        "learning_rate",
        "seconds",
    ]
    # Linear to zero over both epochs: each row has the rate of its first step.
    rates = [float(row["learning_rate"]) for row in rows]
    np.testing.assert_allclose(rates, [1e-3, 0.5e-3], rtol=1e-6)


def test_run_json_says_how_to_do_it_again(
    tiny_run: training.Run, tiny_settings: training.RunSettings
):
    record = json.loads((tiny_run.folder / "run.json").read_text())
    settings = record["settings"] | {"blocks": tuple(record["settings"]["blocks"])}
    assert training.RunSettings(**settings) == tiny_settings
    assert record["versions"]["tensorflow"] == tf.__version__
    assert record["versions"]["tf_keras"] == keras.__version__
    assert record["versions"]["numpy"] == np.__version__
    assert record["versions"]["larq_nobn"] == nobn.__version__
    assert record["versions"]["python"] == platform.python_version()
    assert record["versions"]["larq"].startswith("0.14")
    assert record["parameters"] == tiny_run.model.count_params()
    last = tiny_run.history[-1]
    tested = {f"test_{name}": last[f"test_{name}"] for name in ("loss", "accuracy")}
    known = {**last, **tested}
    assert record["history_split"] == "test"  # there is no other
    assert record["metrics"] == {name: known[name] for name in record["metrics"]}
    assert len(record["seconds_per_epoch"]) == 2
    assert record["preprocessing"]["image_shape"] == [8, 8, 1]
    assert record["preprocessing"]["class_names"] == list("0123456789")


def test_the_last_metrics_are_those_of_the_saved_model(tiny_run: training.Run):
    images = data.load("digits", "test", 32, limit=128)
    result = training.evaluate(training.load_run(tiny_run.folder).model, images)
    metrics = tiny_run.record["metrics"]
    assert result["accuracy"] == pytest.approx(metrics["test_accuracy"], abs=1e-6)
    assert result["loss"] == pytest.approx(metrics["test_loss"], rel=1e-4)


def test_the_loss_of_a_run_with_penalties_is_that_of_its_evaluation(
    tiny_settings: training.RunSettings, tmp_path: Path
):
    way = {"kernel": "bnn_plus", "normalization": "batch_norm", "weight_decay": 0.1}
    way |= {"label_smoothing": 0.1, "accumulate": 2}
    settings = replace(tiny_settings, epochs=1, limit=64, **way)
    with with_little_network():
        run = training.train(settings, tmp_path / "run")
    images = data.load("digits", "test", 32, limit=64)
    result = training.evaluate(training.load_run(run.folder).model, images)
    assert run.record["metrics"]["test_loss"] == pytest.approx(result["loss"], rel=1e-5)
    with (run.folder / "history.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert [*row][:5] == ["epoch", "loss", "accuracy", "penalty", "test_loss"]
    assert float(row["penalty"]) > 0
    (events,) = run.folder.glob("logs/train/events.out.tfevents.*")
    assert b"epoch_penalty" in events.read_bytes()


@pytest.mark.slow
def test_without_matplotlib_and_tensorboard_a_sentence_each(
    tiny_run: training.Run,
    tiny_settings: training.RunSettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
):
    settings = replace(tiny_settings, epochs=1, limit=64, clip_factor=0)
    with with_little_network(), pytest.MonkeyPatch.context() as patch:
        for missing in ("matplotlib", "matplotlib.figure", "tensorboard"):
            patch.setitem(sys.modules, missing, None)
        patch.setattr(_run_folder, "draw_curves", DRAW_CURVES)
        run = training.train(settings, tmp_path / "run")
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss:" in line]
    assert len(lines) == 1 and "test_accuracy:" in lines[0]  # of the epoch
    names = {path.name for path in run.folder.iterdir()}
    assert names == {"model.keras", "history.csv", "run.json"}
    said = [
        record.getMessage() for record in caplog.records if record.name == "larq_nobn"
    ]
    assert [re.split(r"\. | \(", sentence)[0] for sentence in said] == [
        "logs/ is left out because TensorBoard is not installed",
        "curves.png needs matplotlib",
    ]
    clipped, free = tiny_run.model.optimizer, run.model.optimizer
    assert isinstance(clipped, AdaptiveGradientClipping)
    assert clipped.get_config()["clip_factor"] == 0.02
    assert type(free) is keras.optimizers.Adam
    assert set(tiny_run.history[0]) - set(run.history[0]) == {"clipped_share"}
    # Linear to zero: the last of two steps had half of 1e-3 left.
    assert float(free.learning_rate) == pytest.approx(0.5e-3, rel=1e-6)


def test_a_finished_run_is_returned_as_it_is(
    tiny_run: training.Run, tiny_settings: training.RunSettings
):
    files = {path: path.read_bytes() for path in tiny_run.folder.glob("*.*")}
    run = training.train(tiny_settings, tiny_run.folder, resume=True)
    assert_same(run, tiny_run)
    assert {path: path.read_bytes() for path in tiny_run.folder.glob("*.*")} == files
    for change, said in (
        ({"seed": 1}, "with seed=0, but seed=1 was given"),
        ({"epochs": 1}, "with epochs=2, but epochs=1 was given"),
        ({"epochs": 5}, "ends after 2 epochs. .* --recipe plain --epochs 3"),
    ):
        with pytest.raises(ValueError, match=said):
            training.train(
                replace(tiny_settings, **change), tiny_run.folder, resume=True
            )


def test_what_cannot_start_leaves_nothing(
    tiny_settings: training.RunSettings, tmp_path: Path
):
    too_deep = replace(tiny_settings, blocks=(1, 1, 1, 1, 1))
    for settings, options, message in (
        (too_deep, {}, "is too small for"),
        (tiny_settings, {"strategy": "tpu"}, "strategy must be one of n.*; got 'tpu'"),
        (tiny_settings, {"checkpoint_steps": 0}, "steps=0 is below 1. Leave it out"),
        (tiny_settings, {"progress": None}, "progress=None is neither True nor False"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            training.train(settings, tmp_path / "run", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def read(monkeypatch):
    """Which splits are loaded, in order."""
    actual, batches = [], nobn.data.Dataset.batches

    @functools.wraps(batches)
    def note(dataset, split, *arguments, **options):
        actual.append(split)
        return batches(dataset, split, *arguments, **options)

    monkeypatch.setattr(nobn.data.Dataset, "batches", note)
    return actual


def evaluated(run, settings, split):
    size, limit = settings.batch_size, settings.limit
    images = nobn.data.load(
        split=split, batch_size=size, limit=limit, **settings.images
    )
    return training.evaluate(run.model, images)


def test_history_is_of_validation_and_test_is_read_once_at_the_end(
    tiny_settings, tmp_path, little_network, read, monkeypatch
):
    settings = replace(tiny_settings, validation=0.3, epochs=2, limit=64)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_trainer, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(settings, tmp_path / "run")
    read.clear()
    run = training.train(settings, tmp_path / "run", resume=True)
    assert read.count("test") == 1 and read[-1] == "test"
    assert len(run.history) == settings.epochs
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
