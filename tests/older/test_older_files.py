"""What an older version wrote opens, computes the same, and goes on training."""

from __future__ import annotations

import shutil
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.training import RunSettings, load_run, train
from numpy.testing import assert_allclose, assert_array_equal
from training.runs import step_by_step, without_curves

FILES = Path(__file__).parent / "files"
EXPECTED = np.load(FILES / "expected.npz")
# Processors round differently, and a step of Adam makes more of it near gradients of 0.
CLOSE, LATER = 1e-4, 1e-3


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(FILES, tmp_path / "files"))


def test_a_finished_run_opens():
    run = load_run(FILES / "finished")
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.record["settings"]["recipe"] == "nobn"
    outputs = run.model(EXPECTED["images"])
    assert_allclose(outputs, EXPECTED["run_outputs"], atol=CLOSE)


def settings(run):
    """The settings as `larq-nobn train --resume` makes them of the same options."""
    said = run.record["settings"]
    return RunSettings(**{**said, "blocks": tuple(said["blocks"])})


def test_a_finished_run_is_not_trained_again(folder):
    given = load_run(folder / "finished")
    before = (folder / "finished" / "model.keras").stat().st_mtime_ns
    again = train(settings(given), folder / "finished", resume=True)
    assert (folder / "finished" / "model.keras").stat().st_mtime_ns == before
    assert again.history == given.history


def test_an_unfinished_run_resumes_to_the_same_end(folder, caplog):
    finished = load_run(FILES / "finished")
    with step_by_step(), without_curves():
        run = train(settings(finished), folder / "unfinished", resume=True)
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert "is not used" not in caplog.text  # its checkpoint lacks later settings
    for resumed, undisturbed in zip(
        run.model.get_weights(), finished.model.get_weights(), strict=True
    ):
        assert_allclose(resumed, undisturbed, atol=LATER)
    for name in ("loss", "val_loss"):
        assert_allclose(
            run.history[-1][name], finished.history[-1][name], rtol=LATER, err_msg=name
        )


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_model_opens_and_continues(name):
    model = tf.keras.models.load_model(FILES / name)
    model.run_eagerly = True  # a graph of the one step takes longer
    images, labels = EXPECTED["images"], EXPECTED["labels"]
    assert_allclose(model(images), EXPECTED["outputs"], atol=CLOSE)
    assert isinstance(model.optimizer, nobn.optimizers.AdaptiveGradientClipping)
    assert model.optimizer.iterations == 2
    model.train_on_batch(images, labels)
    assert_allclose(model(images), EXPECTED["outputs_later"], atol=LATER)


def test_a_checkpoint_of_weights_is_read():
    model = tf.keras.models.load_model(FILES / "model.keras", compile=False)
    saved = model.get_weights()
    model.set_weights([np.zeros_like(weight) for weight in saved])
    status = model.load_weights(FILES / "checkpoint" / "model")
    status.assert_existing_objects_matched()
    for found, expected in zip(model.get_weights(), saved, strict=True):
        assert_array_equal(found, expected)
