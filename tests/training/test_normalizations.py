"""Every normalization trains on real images, on usual batches and on two images."""

import logging

import numpy as np
import pytest
from larq_nobn import training
from larq_nobn.models import BATCH_STATISTICS, NORMALIZATIONS


def run(normalization, folder, **settings):
    settings = training.RunSettings(
        normalization=normalization,
        dataset="digits",
        blocks=(1, 1),
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
    # Twice what guessing gives; 44 steps of two blocks do not make a classifier.
    assert trained.history[-1]["val_accuracy"] > 0.2
    assert "batch_size" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_two_images_a_batch(normalization, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="larq_nobn")
    trained = run(normalization, tmp_path, width=8, epochs=1, batch_size=2, limit=100)
    assert np.isfinite([list(row.values()) for row in trained.history]).all()
    assert all(np.isfinite(w).all() for w in trained.model.get_weights())
    warned = f"normalization='{normalization}' takes its statistics" in caplog.text
    assert warned == (normalization in BATCH_STATISTICS)
    assert ("Use 4 images a batch or more, or one of none, nobn" in caplog.text) == (
        warned
    )
