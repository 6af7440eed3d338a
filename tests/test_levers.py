"""Changes that wait for a GPU: each of them builds here and takes two steps."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import accelerator
import click
import numpy as np
import pytest
import tensorflow as tf
from _levers import DroppedBranch, DroppedFeatures, Levers, measured_sigmas
from larq_nobn.data._augment import Augmentation, crop_and_flip, draw
from larq_nobn.models import ReActNet18
from larq_nobn.models._weights import weights_by_name
from larq_nobn.quantizers import ScaledStandardization, ScaledStdSign
from larq_nobn.training import Trainer

ROOT = Path(__file__).parents[1]
JOBS = json.loads((ROOT / "results/levers/jobs.json").read_text(encoding="utf-8"))
TINY = {"dataset": "digits", "width": 8, "blocks": [1, 1]}


# Each of the changes, those together that leave each other alone; what is done about
# projections depends on the recipe.
BUILT = [
    ("nobn", {"sigmas": [0.5, 0.8], "latent_decay": 0.02, "head_dropout": 0.2}),
    ("nobn", {"real_projections": True, "dropped_branches": 0.1}),
    (
        "batch_norm",
        {"real_projections": True, "dropped_branches": 0.25, "latent_decay": 0.05},
    ),
]


def started(chosen, folder):
    text = json.dumps(chosen)
    settings, levers = accelerator.settings_of(text), accelerator.levers_of(text)
    with levers.applied():
        trainer = Trainer(accelerator.of_stage(settings, 2), output=folder)
        trainer.build()
    return trainer, levers


@pytest.mark.slow
@pytest.mark.parametrize("recipe, given", BUILT)
def test_a_job_builds_and_takes_two_steps(recipe, given, tmp_path, monkeypatch):
    chosen = {"recipe": recipe, "levers": given, "learning_rate": 0.005, "stages": 2}
    # Of two stages the second, without the training of the first.
    trainer, levers = started({**chosen, **TINY}, tmp_path)
    network, model = trainer.network, trainer.model
    before = {n: v.numpy() for n, v in weights_by_name(network).items()}
    latent = {
        f"{layer.name}/kernel"
        for layer in network.layers
        if isinstance(getattr(layer, "kernel_quantizer", None), ScaledStdSign)
    }

    # A step without gradients: what moves, decays.
    zeros = [(tf.zeros(v.shape), v) for v in network.trainable_variables]
    model.optimizer.apply_gradients(zeros)
    factor = 1 - chosen["learning_rate"] * levers.latent_decay
    for name, value in weights_by_name(network).items():
        wanted = before[name] * (factor if name in latent else 1)
        np.testing.assert_allclose(value, wanted, rtol=1e-6)

    images = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)
    monkeypatch.setattr(model, "run_eagerly", True)
    for _ in range(2):
        loss, _ = model.train_on_batch(images, np.arange(8))
    assert np.isfinite(loss)
    after = weights_by_name(network)
    kernels = [name for name in after if name.endswith("/kernel")]
    assert len(kernels) == 5
    assert all((after[name].numpy() != before[name]).any() for name in kernels)

    shows_factors(network, levers, recipe)
    counters = {n: int(v) for n, v in after.items() if n.endswith("/steps")}
    drops = 2 * (levers.dropped_branches > 0) + (levers.head_dropout > 0)
    assert list(counters.values()) == [2] * drops
    # Counters are averaged nowhere, and not handed on to a second stage.
    kept = accelerator.variables_of(network)
    assert {n for n in kept if n.startswith("counters/")} == {
        f"counters/{name}" for name in counters
    }


def shows_factors(network, levers, recipe):
    """What of the levers stands in the layers."""
    first, second, projection = (
        network.get_layer(f"stage{name}_conv")
        for name in ("1_block1", "2_block1", "2_block1_shortcut")
    )
    quantizer = projection.kernel_quantizer
    if levers.real_projections:
        assert len(np.unique(abs(projection.kernel.numpy()))) > 100
        assert isinstance(quantizer, ScaledStandardization) == (recipe == "nobn")
        assert (quantizer is None) == (recipe == "batch_norm")
    else:
        assert isinstance(quantizer, ScaledStdSign)
    if levers.sigmas:
        alphas = [layer.kernel_quantizer.scale for layer in (first, second)]
        betas = [layer.input_quantizer.scale for layer in (first, second)]
        assert alphas == pytest.approx([0.5 * 0.5, 0.5 * 0.8])
        assert betas == pytest.approx([1 / 0.5, 1 / 0.8])
        assert quantizer.scale == pytest.approx(1 / 0.8)


def test_jobs_are_settings_of_the_package():
    runs = dict(accelerator.runs_of(JOBS))
    known = {each.name for each in fields(Levers)}
    for name, chosen in runs.items():
        settings = accelerator.settings_of(json.dumps(chosen))
        assert settings.recipe == settings.normalization, name
        assert settings.epochs * settings.stages >= 10
        assert chosen.get("levers", {}).keys() <= known
    assert known == {"strength", *(name for _, given in BUILT for name in given)}
    assert all(len(job["reason"]) > 20 for job in JOBS["jobs"])
    names = [job["name"] for job in JOBS["jobs"]]
    assert len(runs) == sum(2 * len(job["of"]) for job in JOBS["jobs"])
    only = [name for name, _ in accelerator.runs_of(JOBS, "batch_64")]
    assert only == [f"{n}_batch_64-{s}" for s in (0, 1) for n in ("nobn", "batch_norm")]
    with pytest.raises(click.UsageError, match=f"'x' is not a job.*{names[0]}, "):
        list(accelerator.runs_of(JOBS, "x"))


def test_dropped_branches_and_features():
    x = np.full((4000, 2, 2, 3), 2, np.float32)
    layer = DroppedBranch(0.25, 3)
    np.testing.assert_array_equal(layer(x, training=False), x)
    first, second = (layer(x, training=True).numpy() for _ in range(2))
    per_example = first.reshape(4000, -1)
    assert set(np.unique(first)) == {0, 2}  # without another factor
    assert (per_example == per_example[:, :1]).all()
    # Five standard errors.
    assert np.mean(per_example[:, 0] == 0) == pytest.approx(0.25, abs=0.035)
    assert (first != second).any() and int(layer.steps) == 2

    features = DroppedFeatures(0.2)
    np.testing.assert_array_equal(features(x, training=False), x)
    found = features(x, training=True).numpy()
    assert set(np.unique(found)) == {0, 2.5}
    assert np.mean(found == 0) == pytest.approx(0.2, abs=0.01)

    # What another machine runs has no operation that only TensorFlow knows.
    step = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    text = step.experimental_get_compiler_ir(tf.constant(x))(stage="stablehlo")
    assert "custom_call" not in text


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_weaker_augmentation(strength):
    variation = Augmentation(1, flip=True, reflect=True, colour=True, strong=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (256, 10, 14, 3)).astype(np.uint8)
    draws = draw(variation, 256, (3, 4))
    plain = np.float32(crop_and_flip(images, draws[:, :3], variation))
    strong, found = (
        accelerator.varied_by_xla(images, draws, variation, s).numpy()
        for s in (1.0, strength)
    )
    holes = (found == 127.5).all(-1).any((1, 2))
    assert holes.mean() == pytest.approx(strength, abs=0.1)
    differences = [np.abs(each - plain)[~holes].mean() for each in (found, strong)]
    if strength:
        assert 1 < differences[0] < differences[1] / 1.2
    else:
        np.testing.assert_allclose(found, plain, atol=1e-2)


def test_measured_sigmas_are_those_of_their_blocks():
    images = np.random.default_rng(0).normal(size=(32, 8, 8, 1)).astype(np.float32)
    model = ReActNet18((8, 8, 1), 10, width=8, blocks=(2, 1))
    found = measured_sigmas(model, images, rounds=2)
    outputs = [
        model.get_layer(n).output for n in ("stage1_block1_act", "stage1_block2_act")
    ]
    values = tf.keras.Model(model.inputs, outputs).predict(images, verbose=0)
    wanted = [np.sqrt(np.float64(x).var((0, 1, 2)).mean()) for x in values]
    assert found[1:] == pytest.approx(wanted, rel=1e-4)
    convolution = model.get_layer("stage1_block2_conv")
    assert convolution.kernel_quantizer.scale == pytest.approx(0.5 * found[1])
    # Of the branch, calibrated for that, in each channel.
    branch = tf.keras.Model(model.inputs, convolution.output).predict(images, verbose=0)
    np.testing.assert_allclose(branch.std((0, 1, 2)), 0.5 * found[1], rtol=1e-2)


def test_two_stages_are_two_jobs_of_the_same_images(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(accelerator, "export_stage", lambda *given: made.append(given))
    text = json.dumps({"recipe": "nobn", "stages": 2, "validation": 0.1, **TINY})
    accelerator.export(accelerator.settings_of(text), tmp_path / "job")
    (first, stage1, images, _), (second, job, same, _) = made
    assert images == same == tmp_path / "digits-0.1.npz"
    assert (stage1, job) == (tmp_path / "job" / "stage1", tmp_path / "job")
    assert first.network["binary_weights"] is False and first.stages == 1
    assert second.stages == 1 and not second.calibrate
