"""Trainings on another machine: what is exported is the step of a run here."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace

import accelerator
import accelerator_epochs
import click
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn.data import open_dataset
from larq_nobn.data._augment import draw, varied
from larq_nobn.models._weights import weights_by_name
from larq_nobn.training import Trainer, load_run

keras = tf.keras
CHOSEN = {"dataset": "digits", "width": 8, "blocks": [1, 1], "batch_size": 128}


def settings(recipe, **more):
    return accelerator.settings_of(json.dumps({"recipe": recipe, **CHOSEN, **more}))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A job for each normalization, read as the other machine reads it."""
    jobs = {}
    for recipe in ("nobn", "batch_norm"):
        folder = tmp_path_factory.mktemp(recipe)
        accelerator.export(settings(recipe), folder)
        jobs[recipe] = folder, json.loads((folder / "job.json").read_text())
    return jobs


@pytest.mark.parametrize("recipe", ["nobn", "batch_norm"])
def test_an_epoch_is_that_of_a_trainer(recipe, exported, tmp_path):
    folder, job = exported[recipe]
    state = accelerator_epochs.initial_state(job, folder, {})
    chosen = settings(recipe, epochs=3)
    trainer, twin = (Trainer(chosen, output=tmp_path / name) for name in ("a", "b"))
    for each in (trainer, twin):
        for name, variable in weights_by_name(each.build()).items():
            variable.assign(state[f"weights/{name}"])
    info = trainer.dataset.info

    with np.load(folder / "images.npz") as data:
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


@pytest.mark.parametrize("recipe", ["nobn", "batch_norm"])
def test_a_job_has_every_weight_of_the_network(recipe, exported, tmp_path):
    folder, job = exported[recipe]
    network = Trainer(settings(recipe), output=tmp_path / "run").build()
    shapes = {
        f"weights/{n}": v.shape.as_list() for n, v in weights_by_name(network).items()
    }
    shapes_there = {name: shape for name, shape, _ in job["state"]}
    assert {n: s for n, s in shapes_there.items() if n.startswith("weights/")} == shapes
    assert job["metrics"] == ["accuracy", "loss"]
    # What is trained, the optimizer and both metrics change; constants do not.
    assert not any(name.startswith("constant/") for name in job["changed"])
    assert shapes.keys() <= set(job["changed"])
    text = lzma.decompress((folder / "epoch.mlir.xz").read_bytes()).decode()
    (main,) = (line for line in text.splitlines() if " @main(" in line)
    given, returned = main.split(" -> (")
    assert given.count("tensor<") == 4 + len(job["state"])
    assert returned.count("tensor<") == 2 + len(job["changed"])
    assert text.count("stablehlo.while") == 1
    assert "mhlo.copy" not in text and "custom_call" not in text
    with np.load(folder / "images.npz") as data:
        assert data["images"].shape == (1442, 8, 8, 1)
        assert data["labels"].shape == (1442,)


def test_latent_weights_are_drawn_alike_on_both_machines(exported):
    _, job = exported["nobn"]
    name, place = next(iter(job["drawn"].items()))
    shape = next(shape for each, shape, _ in job["state"] if each == name)
    found = accelerator_epochs.drawn(place, shape, 3)
    assert found.dtype == np.float32 and found.shape == tuple(shape)
    assert 0 <= found.min() < 1e-4 and 9e-4 < found.max() < 1e-3
    # The generator that NumPy promises to keep, so that a seed stays a network.
    bits = np.random.Generator(np.random.PCG64([3, place[0]])).random(shape, np.float32)
    np.testing.assert_array_equal(found, np.float32(1e-3) * bits)


def test_every_image_of_an_epoch_is_another_one(exported):
    _, job = exported["nobn"]
    job = {**job, "epochs": 2, "seed": 5}
    first, second = accelerator_epochs.epochs_of(job, 1442)
    for order, draws in (first, second):
        assert len(np.unique(order)) == order.size == job["order"][0] * 128
        assert set(np.unique(draws[..., :2])) == {0, 1, 2}
        assert not draws[..., 2].any()  # digits have no mirror images
    assert (first[0] != second[0]).any()


def test_a_second_stage_starts_from_the_first(exported):
    folder, job = exported["nobn"]
    before = {
        name: np.full(shape, 7, np.float32)
        for name, shape, _ in job["state"]
        if name.endswith("/kernel")
    }
    state = accelerator_epochs.initial_state(job, folder, before)
    assert all((state[name] == 7).all() for name in before)
    assert len(before) >= 4 and not (state["weights/head/bias"] == 7).any()


def test_a_validation_split_is_evaluated_there(tmp_path):
    chosen = settings("nobn", epochs=2, validation=0.1)
    accelerator.export(chosen, tmp_path)
    job = json.loads((tmp_path / "job.json").read_text())
    state = accelerator_epochs.initial_state(job, tmp_path, {})
    trainer = Trainer(chosen, output=tmp_path / "twin")
    for name, variable in weights_by_name(trainer.build()).items():
        variable.assign(state[f"weights/{name}"])
    with np.load(tmp_path / "images.npz") as data:
        images, labels = data["held_out"], data["held_out_labels"]
        assert data["images"].shape == (1298, 8, 8, 1)
    assert images.shape == (36, 4, 8, 8, 1)

    info = trainer.dataset.info
    pixels = (images.reshape(-1, 8, 8, 1) / 255 - info.mean) / info.std
    logits = np.float64(trainer.network(pixels.astype(np.float32)))
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(144), labels.ravel()]
    hits = np.mean(logits.argmax(1) == labels.ravel())

    evaluation = accelerator.evaluation_of(trainer.model, info)
    found = evaluation(images, labels.astype(np.int32))
    assert float(found["val_loss"]) == pytest.approx(each.mean(), rel=1e-4)
    assert float(found["val_accuracy"]) == pytest.approx(hits, abs=0.015)
    text = lzma.decompress((tmp_path / "evaluation.mlir.xz").read_bytes()).decode()
    (main,) = (line for line in text.splitlines() if " @main(" in line)
    given, returned = main.split(" -> (")
    assert given.count("tensor<") == 2 + len(job["evaluation"])
    # Sums of the metrics are what an evaluation changes.
    names = [name for name, *_ in job["evaluation"]]
    sums = [name for name in names if name.startswith("metrics/")]
    assert returned.count("tensor<") == 2 + len(sums)


def test_strong_variation_is_that_of_the_package(tmp_path):
    info = open_dataset("digits").info
    variation = accelerator.variation_in(settings("nobn", augment="strong"), info)
    images = tf.constant(open_dataset("digits").read(range(64)))
    draws = draw(variation, 64, (3, 4))
    assert draws.shape == (64, 12)
    compiled = tf.function(accelerator.varied_by_xla, jit_compile=True)
    np.testing.assert_allclose(
        compiled(images, draws, variation),
        varied(images, draws, variation),
        atol=0.02,  # of 255
    )


def test_draws_of_strong_variation_are_bits():
    job = {"seed": 0, "epochs": 1, "order": [3, 5], "pad": 4, "flip": True}
    (usual,) = accelerator_epochs.epochs_of({**job, "columns": 3}, 15)
    (strong,) = accelerator_epochs.epochs_of({**job, "columns": 12}, 15)
    np.testing.assert_array_equal(strong[0], usual[0])
    np.testing.assert_array_equal(strong[1][..., :3], usual[1])
    bits = strong[1][..., 3:]
    assert bits.dtype == np.int32 and bits.min() >= 0 and bits.max() < 2**24
    assert len(np.unique(bits)) == bits.size


def share_right(model):
    """Accuracy on the test images of digits."""
    digits = open_dataset("digits")
    pixels = digits.read(range(355), "test") / 255
    pixels = (pixels - digits.info.mean) / digits.info.std
    logits = model(pixels.astype(np.float32))
    return np.mean(np.argmax(logits, 1) == digits.labels("test"))


@pytest.mark.parametrize("stages", [1, 2])
def test_what_comes_back_becomes_a_run(stages, tmp_path):
    chosen = settings("nobn", epochs=2, stages=stages)
    network = Trainer(accelerator.of_stage(chosen, 2), output=tmp_path / "a").build()
    row = {"loss": 2.0, "accuracy": 0.5, "seconds": 1.0}
    rows = [{"epoch": n, **row} for n in (1, 2)]
    weights = {f"weights/{n}": v.numpy() for n, v in weights_by_name(network).items()}
    weights["weights/head/bias"] += np.arange(10, dtype=np.float32)
    file = tmp_path / "weights.npz"
    np.savez(file, history=np.array(json.dumps(rows)), **weights)
    run = accelerator.finish(chosen, file, tmp_path / "run")
    assert run.record["settings"]["stages"] == stages
    assert np.isnan(run.history[0]["val_loss"])
    rates = [row["learning_rate"] for row in run.history]
    assert rates == pytest.approx([3e-3, 1.5e-3])
    opened = load_run(tmp_path / "run")
    for name, variable in weights_by_name(opened.model).items():
        np.testing.assert_array_equal(variable, weights[f"weights/{name}"])
    right = share_right(opened.model)
    assert run.history[1]["val_accuracy"] == pytest.approx(right)


def test_what_was_evaluated_there_is_kept(tmp_path):
    chosen = settings("nobn", epochs=2, validation=0.1)
    network = Trainer(chosen, output=tmp_path / "a").build()
    row = {"loss": 2.0, "accuracy": 0.5, "seconds": 1.0, "val_loss": 1.5}
    rows = [{"epoch": n, **row, "val_accuracy": n / 8} for n in (1, 2)]
    weights = {f"weights/{n}": v.numpy() for n, v in weights_by_name(network).items()}
    file = tmp_path / "weights.npz"
    np.savez(file, history=np.array(json.dumps(rows)), **weights)
    run = accelerator.finish(chosen, file, tmp_path / "run")
    assert [row["val_accuracy"] for row in run.history] == [0.125, 0.25]
    assert run.record["history_split"] == "validation"
    assert run.record["metrics"]["val_loss"] == 1.5
    right = share_right(load_run(tmp_path / "run").model)
    assert run.record["metrics"]["test_accuracy"] == pytest.approx(right)


def test_what_cannot_be_exported_is_rejected(tmp_path):
    for more in ({"mixup": 0.2}, {"limit": 100}):
        with pytest.raises(click.UsageError, match="cannot be exported"):
            settings("nobn", **more)
    chosen = settings("nobn", epochs=2)
    file = tmp_path / "weights.npz"
    network = Trainer(chosen, output=tmp_path / "a").build()
    weights = {f"weights/{n}": v.numpy() for n, v in weights_by_name(network).items()}
    np.savez(file, history=np.array("[]"), **weights)
    with pytest.raises(click.UsageError, match="0 epochs"):
        accelerator.finish(chosen, file, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    first = accelerator.of_stage(replace(chosen, stages=2), 1)
    assert first.network["binary_weights"] is False and first.stages == 1
