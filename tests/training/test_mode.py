"""Runs whose kernels are drawn: what is tested is the network that is saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import larq as lq
import numpy as np
import pytest
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.training.run._mode import needs_statistics
from larq_nobn.training.settings import NETWORKS
from numpy.testing import assert_allclose
from training.runs import assert_same, step_by_step, stop_and_resume

SETTINGS = training.RunSettings.from_recipe(
    "bayesian",
    normalization="batch_norm",
    dataset="digits",
    augment="none",
    epochs=2,
    batch_size=16,
    limit=64,
    natural_learning_rate=100.0,
)


def dense(units: int, name: str) -> keras.layers.Layer:
    sign = {"kernel_quantizer": "ste_sign", "use_bias": False}
    return lq.layers.QuantDense(units, name=name, **sign)


def two_norms(
    input_shape: tuple[int, ...], classes: int, normalization: str
) -> keras.Model:
    x = image = keras.Input(input_shape)
    x = dense(12, "first")(keras.layers.Flatten()(x))
    x = keras.layers.BatchNormalization(name="first_norm")(x)
    x = dense(9, "second")(lq.quantizers.SteSign()(x))
    x = keras.layers.BatchNormalization(name="second_norm")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="head")(x))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[training.Run]:
    with step_by_step(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "ReActNet18", two_norms)
        yield training.train(SETTINGS, tmp_path_factory.mktemp("mode") / "run")


def signs(model: keras.Model, name: str) -> np.ndarray:
    latent = model.get_layer(name).kernel.latent_variable.numpy()
    return np.where(latent >= 0, 1.0, -1.0)


def test_batch_norms_have_the_statistics_of_the_most_probable_weights(
    run: training.Run,
):
    batches = data.load("digits", "train", 64, limit=64, augment=False)
    (images, _), *rest = batches.as_numpy_iterator()
    assert not rest
    x = images.reshape(64, -1).astype(np.float64)
    for name in ("first", "second"):
        norm = run.model.get_layer(f"{name}_norm")
        x = x @ signs(run.model, name)
        mean, variance = x.mean(0), x.var(0)
        assert_allclose(norm.moving_mean, mean, rtol=1e-4, atol=1e-4)
        assert_allclose(norm.moving_variance, variance, rtol=1e-4)
        shown = (x - mean) / np.sqrt(variance + norm.epsilon) * norm.gamma + norm.beta
        x = np.where(shown >= 0, 1.0, -1.0)


def test_what_is_tested_in_an_epoch_is_what_is_saved(run: training.Run):
    images = data.load("digits", "test", 64, limit=64)
    found = training.evaluate(run.model, images)
    assert run.record["metrics"]["val_loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert run.record["metrics"]["val_accuracy"] == pytest.approx(found["accuracy"])


def test_a_run_that_goes_on_takes_the_same(run: training.Run, tmp_path: Path):
    assert_same(stop_and_resume(SETTINGS, tmp_path / "resumed", 1), run)


def test_other_networks_keep_the_averages_of_training():
    def network(kernel: str, norm: keras.layers.Layer) -> keras.Model:
        layer = lq.layers.QuantDense(3, kernel_quantizer=kernel)
        return keras.Sequential([keras.Input((4,)), layer, norm])

    norms = keras.layers
    assert needs_statistics(network("bernoulli_sign", norms.BatchNormalization()))
    assert not needs_statistics(network("ste_sign", norms.BatchNormalization()))
    assert not needs_statistics(network("bernoulli_sign", norms.LayerNormalization()))
