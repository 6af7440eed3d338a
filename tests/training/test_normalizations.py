"""Every normalization trains on real images, on usual batches and on two images."""

import logging

import numpy as np
import pytest
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.models import BATCH_STATISTICS, NORMALIZATIONS, ReActNet18
from larq_nobn.training.run._train import _warn_of_small_batches


def run(normalization, folder, **settings):
    settings = training.RunSettings(
        normalization=normalization,
        dataset="digits",
        blocks=(1,),
        learning_rate=3e-3,
        **settings,
    )
    return training.train(settings, folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_two_epochs_on_digits(normalization, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="larq_nobn")
    trained = run(normalization, tmp_path, width=16, epochs=2, batch_size=64)
    assert np.isfinite([list(row.values()) for row in trained.history]).all()
    # Twice what guessing gives; 44 steps of one block do not make a classifier.
    assert trained.history[-1]["val_accuracy"] > 0.2
    assert "batch_size" not in caplog.text


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_two_images_a_batch(normalization):
    keras.utils.set_random_seed(0)
    model = ReActNet18((8, 8, 1), 10, normalization, width=8, blocks=(1,))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, run_eagerly=True)
    for x, y in data.load("digits", "train", 2, limit=10):
        assert np.isfinite(model.train_on_batch(x, y))
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_who_is_warned_of_two_images_a_batch(normalization, caplog):
    caplog.set_level(logging.WARNING, logger="larq_nobn")
    settings = training.RunSettings(normalization=normalization, batch_size=2)
    _warn_of_small_batches(settings, replicas=1)
    warned = f"normalization='{normalization}' takes its statistics" in caplog.text
    assert warned == (normalization in BATCH_STATISTICS)
    assert ("Use 4 images a batch or more, or one of none, nobn" in caplog.text) == (
        warned
    )


@pytest.mark.slow
def test_a_run_warns(tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="larq_nobn")
    run("batch_norm", tmp_path, width=8, epochs=1, batch_size=2, limit=20)
    assert "Use 4 images a batch or more" in caplog.text
