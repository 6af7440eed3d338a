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
from larq_nobn.data._augment import Augmentation, draw, varied
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


def images_of(folder, job):
    with np.load(folder / job["images"]) as data:
        return dict(data)


def test_an_epoch_is_that_of_a_trainer(exported, trainer, tmp_path):
    folder, job = exported
    twin = started(exported, tmp_path / "twin")
    info = trainer.dataset.info

    data = images_of(folder, job)
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


def ports(file):
    """How much the main function of an exported program takes and returns."""
    text = lzma.decompress(file.read_bytes()).decode()
    assert text.count("stablehlo.while") == 1
    assert "mhlo.copy" not in text and "custom_call" not in text
    (main,) = (line for line in text.splitlines() if " @main(" in line)
    return tuple(part.count("tensor<") for part in main.split(" -> ("))


def test_a_job_has_every_weight_of_the_network(exported, trainer):
    folder, job = exported
    network = trainer.network
    shapes = {
        f"weights/{n}": v.shape.as_list() for n, v in weights_by_name(network).items()
    }
    shapes_there = {name: shape for name, shape, _ in job["state"]}
    assert {n: s for n, s in shapes_there.items() if n.startswith("weights/")} == shapes
    assert job["metrics"] == ["accuracy", "loss"]
    # What is trained, the optimizer and both metrics change; constants do not.
    assert not any(name.startswith("constant/") for name in job["changed"])
    assert shapes.keys() <= set(job["changed"])
    counts = 4 + len(job["state"]), 2 + len(job["changed"])
    assert ports(folder / "epoch.mlir.xz") == counts
    data = images_of(folder, job)
    assert data["images"].shape == (1298, 8, 8, 1)
    assert data["labels"].shape == (1298,)
    assert (folder / job["images"]).resolve() == folder.parent / "digits-0.1.npz"


def test_latent_weights_are_drawn_alike_on_both_machines(exported):
    _, job = exported
    name, place = next(iter(job["drawn"].items()))
    shape = next(shape for each, shape, _ in job["state"] if each == name)
    found = accelerator_epochs.drawn(place, shape, 3)
    assert found.dtype == np.float32 and found.shape == tuple(shape)
    assert -1e-3 <= found.min() < -9e-4 and 9e-4 < found.max() < 1e-3
    # The generator that NumPy promises to keep, so that a seed stays a network.
    bits = np.random.Generator(np.random.PCG64([3, place[0]])).random(shape, np.float32)
    np.testing.assert_array_equal(found, np.float32(-1e-3) + np.float32(2e-3) * bits)


def test_every_image_of_an_epoch_is_another_one(exported):
    _, job = exported
    job = {**job, "epochs": 2, "seed": 5}
    first, second = accelerator_epochs.epochs_of(job, 1298)
    for order, draws in (first, second):
        assert len(np.unique(order)) == order.size == job["order"][0] * 128
        assert set(np.unique(draws[..., :2])) == {0, 1, 2}
        assert not draws[..., 2].any()  # digits have no mirror images
    assert (first[0] != second[0]).any()


def test_a_validation_split_is_evaluated_there(exported, trainer):
    folder, job = exported
    data = images_of(folder, job)
    images, labels = data["held_out"], data["held_out_labels"]
    assert images.shape == (4, 36, 8, 8, 1)

    info = trainer.dataset.info
    pixels = (images.reshape(-1, 8, 8, 1) / 255 - info.mean) / info.std
    logits = np.float64(trainer.network(pixels.astype(np.float32)))
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(144), labels.ravel()]
    hits = np.mean(logits.argmax(1) == labels.ravel())

    evaluation = accelerator.evaluation_of(trainer.model, info)
    found = evaluation(images, labels.astype(np.int32))
    assert float(found["val_loss"]) == pytest.approx(each.mean(), rel=1e-4)
    assert float(found["val_accuracy"]) == pytest.approx(hits, abs=0.015)
    # Sums of the metrics are what an evaluation changes.
    names = [name for name, *_ in job["evaluation"]]
    sums = [name for name in names if name.startswith("metrics/")]
    assert ports(folder / "evaluation.mlir.xz") == (2 + len(names), 2 + len(sums))


def test_strong_variation_is_that_of_the_package():
    shape = 10, 14, 3
    variation = Augmentation(1, flip=True, reflect=True, colour=True, strong=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, *shape)).astype(np.uint8)
    draws = draw(variation, 64, (3, 4))
    assert draws.shape == (64, 12)
    compiled = tf.function(accelerator.varied_by_xla, jit_compile=True)
    wanted = varied(tf.constant(images), draws, variation)
    # Of 255; points of the image are found in another order of sums.
    np.testing.assert_allclose(compiled(images, draws, variation), wanted, atol=0.05)


def test_draws_of_strong_variation_are_bits():
    job = {"seed": 0, "epochs": 2, "order": [3, 5], "pad": 4, "flip": True}
    for _, draws in accelerator_epochs.epochs_of({**job, "columns": 12}, 15):
        assert draws.shape == (3, 5, 12) and draws.dtype == np.int32
        assert draws[..., :2].max() <= 8 and draws[..., 2].max() == 1
        bits = draws[..., 3:]
        assert bits.min() >= 0 and bits.max() < 2**24
        assert len(np.unique(bits)) == bits.size


class CountingProgram:
    """In place of a compiled one: adds to what it is given."""

    def __init__(self, file, places):
        self.kind = file.name.partition(".")[0]
        self.names = [name for name, *_ in places]

    def __call__(self, arguments, state):
        assert all(name in state for name in self.names)
        if self.kind == "epoch":
            images, labels, order, draws = arguments
            assert images.shape == (9, 2, 2, 1) and labels.dtype == np.int32
            assert order.shape == (2, 4) and draws.shape == (2, 4, 3)
            return [0.25, 1.5, state["weights/a"] + 1, state["metrics/0"] + 10]
        images, labels = arguments
        assert images.shape == (1, 3, 2, 2, 1) and labels.shape == (1, 3)
        return [0.5, state["metrics/0"] / 8, state["metrics/0"] + 100]


@pytest.mark.parametrize("evaluated", [False, True])
def test_what_is_trained_there(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator_epochs, "Program", CountingProgram)
    monkeypatch.setattr(accelerator_epochs, "put", np.asarray)
    names = ["weights/a", "metrics/0"]
    places = [[names[0], [2], "float32"], [names[1], [], "float32"]]
    job = {
        **{"seed": 0, "epochs": 3, "order": [2, 4], "columns": 3, "pad": 1},
        **{
            "flip": False,
            "images": "images.npz",
            "metrics": ["accuracy", "loss"],
            "drawn": {},
        },
        **{"state": places, "changed": names},
        **({"evaluation": places[::-1]} if evaluated else {}),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    np.savez(tmp_path / "state.npz", **{"weights/a": np.float32([1, 2])})
    shape = (2, 2, 1)
    arrays = {"images": np.zeros((9, *shape), np.uint8), "labels": np.arange(9)}
    arrays["held_out"] = np.zeros((1, 3, *shape), np.uint8)
    arrays["held_out_labels"] = np.zeros((1, 3), int)
    np.savez(tmp_path / "images.npz", **arrays)

    weights, rows = accelerator_epochs.train(tmp_path)
    assert weights.keys() == {"weights/a"}
    np.testing.assert_array_equal(weights["weights/a"], [4, 5])
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {(row["accuracy"], row["loss"]) for row in rows} == {(0.25, 1.5)}
    found = [(row.get("val_accuracy"), row.get("val_loss")) for row in rows]
    # Each epoch adds 10 to the sum of the metric, and each evaluation 100.
    seen = [(0.5, 10 / 8), (0.5, 120 / 8), (0.5, 230 / 8)]
    assert found == (seen if evaluated else [(None, None)] * 3)
    weights, _ = accelerator_epochs.train(tmp_path, averaged=2)
    np.testing.assert_array_equal(weights["weights/a"], [3.5, 4.5])
    # A first stage, of the same images, trains what the second starts from.
    first = tmp_path / "stage1"
    first.mkdir()
    (first / "job.json").write_text(json.dumps({**job, "images": "../images.npz"}))
    np.savez(first / "state.npz", **{"weights/a": np.float32([7, 17])})
    weights, rows = accelerator_epochs.train(tmp_path)
    np.testing.assert_array_equal(weights["weights/a"], [13, 23])
    assert len(rows) == 3


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


def test_what_cannot_be_exported_is_rejected():
    for more in ({"mixup": 0.2}, {"limit": 100}, {"augment": "none"}):
        with pytest.raises(click.UsageError, match="cannot be exported"):
            settings("nobn", **more)
    chosen = settings("nobn", epochs=2, stages=2)
    first = accelerator.of_stage(chosen, 1)
    assert first.network["binary_weights"] is False and first.stages == 1
