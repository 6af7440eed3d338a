"""Trainings on another machine: what is exported is the step of a run here."""

from __future__ import annotations

import json
from dataclasses import replace

import accelerator
import accelerator_epochs
import click
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import open_dataset
from larq_nobn.models._weights import weights_by_name
from larq_nobn.training import Trainer, load_run

keras = tf.keras
CHOSEN = {"dataset": "digits", "width": 8, "blocks": [1], "batch_size": 128}
BOTH = {"normalization": "batch_norm", "epochs": 3, "validation": 0.1}


def settings(recipe, **more):
    return accelerator.settings_of(json.dumps({"recipe": recipe, **CHOSEN, **more}))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A job, as the other machine reads it, of what both recipes have between them."""
    folder = tmp_path_factory.mktemp("jobs") / "job"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerator, "EVALUATED", 40)
        accelerator.export(settings("nobn", **BOTH), folder)
    return folder, json.loads((folder / "job.json").read_text())


@pytest.fixture
def trainer(exported, tmp_path):
    """Of the same settings, from the same start."""
    return started(exported, tmp_path / "trainer")


def started(exported, place):
    folder, job = exported
    state = accelerator_epochs.initial_state(job, folder, {})
    trainer = Trainer(settings("nobn", **BOTH), output=place)
    for name, variable in weights_by_name(trainer.build()).items():
        variable.assign(state[f"weights/{name}"])
    return trainer


def test_an_epoch_is_that_of_a_trainer(exported, trainer, tmp_path):
    folder, job = exported
    twin = started(exported, tmp_path / "twin")
    info = trainer.dataset.info

    data = np.load(folder / job["images"])
    images, labels = data["images"], data["labels"]
    order, draws = next(accelerator_epochs.epochs_of(job, len(labels)))
    order, draws = order[:2], draws[:2]
    variation = accelerator.variation_of(True, info.name, info.image_shape, True)
    epoch = accelerator.epoch_of(twin.model, variation, info)
    twin.model.evaluate(images[:2] / 255, labels[:2], verbose=0)  # makes its metrics
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
        found = trainer.model.train_on_batch(x, labels[numbers], return_dict=True)
        losses.append(found["loss"])
        hits += found["accuracy"] * len(numbers)
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(hits / order.size, abs=0.01)
    for name, variable in weights_by_name(twin.network).items():
        wanted = weights_by_name(trainer.network)[name]
        np.testing.assert_allclose(variable, wanted, rtol=2e-3, atol=2e-4)


def share_right(model, digits=None, split="test"):
    """Accuracy on the images of a split of digits."""
    digits = digits or open_dataset("digits")
    labels = digits.labels(split)
    pixels = digits.read(range(len(labels)), split) / 255
    pixels = (pixels - digits.info.mean) / digits.info.std
    logits = model(pixels.astype(np.float32))
    return np.mean(np.argmax(logits, 1) == labels)


def test_what_comes_back_becomes_a_run(tmp_path):
    chosen = settings("nobn", epochs=2, stages=2, validation=0.1)
    network = Trainer(accelerator.of_stage(chosen, 2), output=tmp_path / "a").build()
    row = {"loss": 2.0, "accuracy": 0.5, "val_loss": 1.5, "val_accuracy": 0.125}
    row["seconds"] = 1.0
    rows = [{"epoch": n, **row} for n in (1, 2)]
    weights = {f"weights/{n}": v.numpy() for n, v in weights_by_name(network).items()}
    weights["weights/head/bias"] += np.arange(10, dtype=np.float32)

    def finish(chosen, rows):
        file = tmp_path / "weights.npz"
        np.savez(file, history=np.array(json.dumps(rows)), **weights)
        return accelerator.finish(chosen, file, tmp_path / "run")

    with pytest.raises(click.UsageError, match="0 epochs"):
        finish(chosen, rows[2:])
    with pytest.raises(click.UsageError, match="not trained with validation=0.0"):
        finish(replace(chosen, validation=0.0), rows)
    assert not (tmp_path / "run").exists()
    run = finish(chosen, rows)
    assert run.record["settings"]["stages"] == 2
    rates = [row["learning_rate"] for row in run.history]
    assert rates == pytest.approx([3e-3, 1.5e-3])
    model = load_run(tmp_path / "run").model
    for name, variable in weights_by_name(model).items():
        np.testing.assert_array_equal(variable, weights[f"weights/{name}"])
    first, last = run.history
    assert run.record["history_split"] == "validation"
    assert (first["val_accuracy"], first["val_loss"]) == (0.125, 1.5)
    # The last epoch is evaluated here, in float32.
    held_out = share_right(model, open_dataset("digits", validation=0.1), "validation")
    assert last["val_accuracy"] == pytest.approx(held_out)
    tested = run.record["metrics"]["test_accuracy"]
    assert tested == pytest.approx(share_right(model))
