"""Smoothed, mixed and weighted labels, against gradients written out in NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.training._training_model import TrainingModel, balanced_weights
from numpy.testing import assert_allclose

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(12, 5)).astype(np.float32)
LABELS = RNG.integers(0, 3, 12)
MIXED = RNG.dirichlet(np.ones(3), 12).astype(np.float32)
WEIGHTS = (0.5, 1.0, 2.5)


def step(labels: np.ndarray, **options: Any) -> tuple[np.ndarray, ...]:
    """Kernel before and after a step of rate 1, logs, and the loss of a test."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    network = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    trainee = TrainingModel(network, **options)
    trainee.compile(
        keras.optimizers.SGD(1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=True,
    )
    before = network.layers[1].kernel.numpy()
    tested, _ = trainee.test_on_batch(INPUTS, LABELS)
    trainee.reset_metrics()
    logs = trainee.train_step((tf.constant(INPUTS), tf.constant(labels)))
    return before, network.layers[1].kernel.numpy(), logs, tested


# Each two of them with and without each other.
@pytest.mark.parametrize(
    ("mixed", "smoothing", "weights", "accumulate"),
    [
        (False, 0.0, None, 1),
        (False, 0.2, WEIGHTS, 1),
        (False, 0.2, WEIGHTS, 3),
        (True, 0.0, WEIGHTS, 3),
        (True, 0.2, None, 3),
        (True, 0.2, WEIGHTS, 1),
    ],
)
def test_gradient_loss_and_accuracy(
    mixed: bool, smoothing: float, weights: tuple[float, ...] | None, accumulate: int
):
    before, after, logs, tested = step(
        MIXED if mixed else LABELS,
        label_smoothing=smoothing,
        class_weights=weights,
        accumulate=accumulate,
    )
    whole = MIXED.astype(np.float64) if mixed else np.eye(3)[LABELS]
    target = (1 - smoothing) * whole + smoothing / 3
    weight = np.ones(12) if weights is None else whole @ np.array(weights)
    logits = INPUTS.astype(np.float64) @ before
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = np.mean(weight * -(target * log_softmax).sum(1))
    error = weight[:, None] * (np.exp(log_softmax) - target) / 12
    # Sums of a dozen float32 numbers around 1.
    assert_allclose(before - after, INPUTS.T @ error, atol=2e-6)
    found = MIXED.argmax(1) if mixed else LABELS
    assert_allclose(logs["accuracy"], np.mean(logits.argmax(1) == found), atol=1e-6)
    plain = -log_softmax[np.arange(12), LABELS]
    assert_allclose(tested, plain.mean(), rtol=1e-6)  # of labels as they are
    if accumulate == 1:
        assert_allclose(logs["loss"], loss, rtol=1e-6)


def test_a_teacher_takes_the_place_of_mixed_labels():
    teacher = RNG.dirichlet(np.ones(3), 12).astype(np.float32)
    before, after, _, _ = step(MIXED, teacher=lambda images: tf.constant(teacher))
    logits = INPUTS.astype(np.float64) @ before
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert_allclose(before - after, INPUTS.T @ (softmax - teacher) / 12, atol=2e-6)


def test_weights_of_classes(tmp_path):
    settings = training.RunSettings(
        dataset="digits", limit=25, balance_classes=True, width=4, blocks=(1,)
    )
    # Three of each of the first five classes, two of each other one.
    expected = [25 / (10 * 3)] * 5 + [25 / (10 * 2)] * 5
    counts = data.open_dataset("digits").class_counts(settings.limit)
    assert_allclose(balanced_weights(counts), expected)
    trainer = training.Trainer(settings, output=tmp_path / "run")
    trainer.build()
    assert_allclose(trainer.model._class_weights, expected)
    plain = training.Trainer(
        replace(settings, balance_classes=False), output=tmp_path / "plain"
    )
    plain.build()
    assert plain.model._class_weights is None
