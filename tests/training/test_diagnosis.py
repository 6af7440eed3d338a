"""A loss that is not finite: where it started, what is kept, what to do."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.training._checkpoints import position_kept
from larq_nobn.training._stopping import (
    StopCheck,
    explain_non_finite,
    find_non_finite,
)
from larq_nobn.training._training_model import NOT_FINITE

IMAGES = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
LABELS = tf.range(8) % 3
TINY = training.RunSettings(
    dataset="digits", width=4, blocks=(1,), epochs=2, batch_size=32, limit=64
)


@tf.custom_gradient
def _bad_slope(x: tf.Tensor) -> tuple[tf.Tensor, object]:
    return x, lambda upstream: upstream * np.inf


def network(middle: keras.layers.Layer, **options: object) -> keras.Model:
    x = image = keras.Input((5,))
    x = keras.layers.Dense(4, name="first")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = middle(x)
    model = keras.Model(image, keras.layers.Dense(3, name="last", **options)(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    return model


def linear() -> keras.layers.Layer:
    return keras.layers.Activation("linear", name="middle")


def infinite(kernel: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(kernel) * np.inf


def log_of_zero(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.math.log(outputs * 0), axis=-1)


def test_the_first_that_is_not_finite_is_named():
    of_infinity = IMAGES.copy()
    of_infinity[3, 1] = np.inf
    plain, spoiled, other_loss = (network(linear()) for _ in range(3))
    kernel = spoiled.get_layer("last").kernel
    kernel.assign(tf.where(kernel >= kernel[0, 0], np.nan, kernel))
    other_loss.compile("sgd", log_of_zero)
    logarithm = network(keras.layers.Activation(tf.math.log, name="middle"))
    before = logarithm.get_weights()
    steep = network(keras.layers.Lambda(_bad_slope, name="middle"))
    for model, images, sentence in (
        (plain, of_infinity, "the images are not finite"),
        (spoiled, IMAGES, "weights of layer last are not finite"),
        (
            logarithm,
            IMAGES,
            "the output of layer middle is not finite (its inputs are)",
        ),
        (
            network(linear(), kernel_regularizer=infinite),
            IMAGES,
            "a regularization loss is not finite (all outputs are)",
        ),
        (other_loss, IMAGES, "the loss is not finite, though all outputs are"),
        # The norm after which the slope is, not the layer first that comes before it.
        (steep, IMAGES, "a gradient of layer norm is not finite (the loss is)"),
    ):
        assert find_non_finite(model, images, LABELS) == sentence
    assert "does not show again" in find_non_finite(plain, IMAGES, LABELS)
    check = StopCheck()  # for what a last step, or XLA, lets pass
    check.set_model(spoiled)
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        check.on_epoch_end(0, {"loss": 1.0})
    for a, b in zip(logarithm.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def nan(images: tf.Tensor) -> tf.Tensor:
    return tf.fill((len(images), 3), np.nan)


LOWER = "with a learning rate below 0.1 (--learning-rate), gradient clipping"


def test_what_is_not_finite_before_anything_is_trained_came_with_a_file():
    settings = training.RunSettings(
        dataset="digits", init="a.keras", teacher="b.keras", learning_rate=0.1
    )
    model, check = network(linear()), StopCheck()
    images = tf.data.Dataset.from_tensors((IMAGES, LABELS))
    checkpoints: Any = SimpleNamespace(last=None)
    for step, teacher, said in (
        (0, None, "Start from another network than a.keras."),
        (1, None, LOWER),
        (0, nan, "what the teacher gives is not finite. There is no good checkpoint. "),
        (1, nan, "Give another teacher than b.keras."),
    ):
        check.batch = step
        rest = (model, check, checkpoints, lambda *_: images, teacher)
        with (
            pytest.raises(training.NonFiniteLoss, match=re.escape(said)),
            explain_non_finite(settings, *rest),
        ):
            raise tf.errors.InvalidArgumentError(None, None, NOT_FINITE)


def poisoned(epoch: int, step: int) -> object:
    """Batches of a data set, of which one has an image that is NaN."""
    load = data.Dataset.batches

    def loading(self: data.Dataset, split: str, **options: Any) -> tf.data.Dataset:
        batches = load(self, split, **options)
        if split == "test":
            return batches
        begin = options["step"]
        steps = len(load(self, split, **{**options, "step": 0}))
        place = steps * (epoch - options["epoch"]) + step - begin
        counter = tf.Variable(0, dtype=tf.int64)

        def spoil(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            bad = tf.equal(counter.assign_add(1), place + 1)
            return tf.where(bad, tf.fill(tf.shape(x), np.nan), x), y

        spoiled = batches.map(spoil)
        if begin:
            return spoiled
        return spoiled.apply(tf.data.experimental.assert_cardinality(steps))

    return loading


@pytest.mark.usefixtures("little_network")
def test_a_run_keeps_its_last_checkpoint_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(data.Dataset, "batches", poisoned(epoch=1, step=1))
    with pytest.raises(training.NonFiniteLoss) as caught:
        training.train(TINY, tmp_path / "run")
    assert str(caught.value) == (
        "The loss is not finite at epoch 2, step 2: the images are not finite. "
        "The last good checkpoint is that of epoch 1. Prepare the data set again."
    )
    assert position_kept(tmp_path / "run") == (1, 0)
    monkeypatch.undo()
    assert len(training.train(TINY, tmp_path / "run", resume=True).history) == 2
