"""Trainings on another machine: what is exported is the step of a run here."""

from __future__ import annotations

import json

import accelerator
import accelerator_epochs
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import _augment
from larq_nobn.models._weight_names import weights_by_name
from larq_nobn.training import Trainer
from training.runs import eager  # noqa: F401

CHOSEN = {"dataset": "digits", "width": 8, "blocks": [1], "batch_size": 16}
BOTH = {"normalization": "batch_norm", "epochs": 3, "validation": 0.1}


def settings(**more):
    return accelerator.settings_of(json.dumps({"recipe": "nobn", **CHOSEN, **more}))


@pytest.mark.usefixtures("eager")
def test_an_epoch_is_that_of_a_trainer(tmp_path, monkeypatch):
    """Of what both recipes have between them; it is not written for a compiler."""

    def traced(*_, variables, **__):
        return {name: variable.numpy() for name, variable in variables.items()}

    monkeypatch.setattr(accelerator, "write_function", traced)
    folder = tmp_path / "job"
    accelerator.export(settings(**BOTH), folder)
    job = json.loads((folder / "job.json").read_text())
    state = accelerator_epochs.initial_state(job, folder, {})

    def started(place):
        trainer = Trainer(settings(**BOTH), output=tmp_path / place)
        for name, variable in weights_by_name(trainer.build()).items():
            variable.assign(state[f"weights/{name}"])
        return trainer

    trainer, other = started("one"), started("other")
    info = trainer.dataset.info
    data = np.load(folder / job["images"])
    images, labels = data["images"], data["labels"]
    order, draws = next(accelerator_epochs.epochs_of(job, len(labels)))
    order, draws = order[:2], draws[:2]
    variation = trainer.dataset.transform(None, "auto", trainer.config.reflect)
    epoch = accelerator.epoch_of(other.model, variation, info)
    other.model.evaluate(images[:2] / 255, labels[:2], verbose=0)  # makes its metrics
    tf.config.run_functions_eagerly(True)
    try:
        metrics = epoch(images, labels.astype(np.int32), order, draws)
    finally:
        tf.config.run_functions_eagerly(False)

    losses, hits = [], 0.0
    for numbers, drawn in zip(order, draws, strict=True):
        # By hand, from the definition: a crop of the image with mirrored borders.
        padded = np.pad(images[numbers], [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
        crops = [
            image[top : top + 8, left : left + 8][:, :: -1 if mirrored else 1]
            for image, (top, left, mirrored) in zip(padded, drawn, strict=True)
        ]
        x = (np.array(crops, np.float32) / 255 - info.mean) / info.std
        trainer.model.reset_metrics()
        actual = trainer.model.train_on_batch(x, labels[numbers], return_dict=True)
        losses.append(actual["loss"])
        hits += actual["accuracy"] * len(numbers)
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(hits / order.size, abs=0.01)
    for name, variable in weights_by_name(other.network).items():
        wanted = weights_by_name(trainer.network)[name]
        np.testing.assert_allclose(variable, wanted, rtol=2e-3, atol=2e-4)


def test_affine_maps_are_those_of_the_package():
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (5, 6, 9, 3)).astype(np.float32)
    uniform = random.random((5, 4), np.float32)
    actual = accelerator.random_affine(images, uniform)
    np.testing.assert_allclose(
        actual, _augment.random_affine(images, uniform), rtol=1e-3, atol=1e-2
    )
