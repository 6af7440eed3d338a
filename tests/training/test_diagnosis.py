"""A loss that is not finite: where it started, what is kept, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.training._checkpoints import newest_position
from larq_nobn.training._stopping import StopCheck, find_non_finite
from larq_nobn.training._training_model import NOT_FINITE

IMAGES = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
TINY = training.RunSettings(
    "plain", dataset="digits", width=4, blocks=(1,), epochs=2, batch_size=32, limit=64
)


def network(middle: keras.layers.Layer) -> keras.Model:
    x = image = keras.Input((5,))
    x = keras.layers.Dense(4, name="first")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = middle(x)
    model = keras.Model(image, keras.layers.Dense(3, name="last")(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    return model


def linear() -> keras.layers.Layer:
    return keras.layers.Activation("linear", name="middle")


def test_the_first_that_is_not_finite_is_named():
    of_infinity = IMAGES.copy()
    of_infinity[3, 1] = np.inf
    plain, spoiled = network(linear()), network(linear())
    kernel = spoiled.get_layer("last").kernel
    kernel.assign(tf.where(kernel >= kernel[0, 0], np.nan, kernel))
    logarithm = network(keras.layers.Activation(tf.math.log, name="middle"))
    before = logarithm.get_weights()
    for model, images, sentence in (
        (plain, of_infinity, "the images are not finite"),
        (spoiled, IMAGES, "weights of layer last are not finite"),
        (
            logarithm,
            IMAGES,
            "the output of layer middle is not finite (its inputs are)",
        ),
        (plain, IMAGES, "a loss or a gradient, though all outputs are finite"),
    ):
        assert find_non_finite(model, images) == sentence
    check = StopCheck()  # for what a last step, or XLA, lets pass
    check.set_model(spoiled)
    with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_FINITE):
        check.on_epoch_end(0, {"loss": 1.0})
    for a, b in zip(logarithm.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


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
    assert newest_position(tmp_path / "run") == (1, 0)
    monkeypatch.undo()
    assert len(training.train(TINY, tmp_path / "run", resume=True).history) == 2
