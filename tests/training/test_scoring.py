"""Loss and accuracy against a calculation by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import larq_nobn as nobn
import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import training
from larq_nobn._keras import keras

LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, -1.0]], np.float32)
LABELS = np.array([0, 1, 1])
# log(1 + e^-2), log(1 + e^-1) and log(1 + e^4), by hand.
LOSS = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0)) + np.log1p(np.exp(4.0))) / 3


def _images(batch_size: int = 2) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((LOGITS, LABELS)).batch(batch_size)


def test_logits():
    counts: list[int] = []
    result = training.evaluate(lambda batch: batch, _images(), counts.append)
    assert result["loss"] == pytest.approx(LOSS, rel=1e-6)
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["examples"] == 3
    sure = 1 / (1 + np.exp([-2.0, -1.0, -4.0]))  # each in an interval of its own
    error = np.mean([1 - sure[0], 1 - sure[1], sure[2]])
    assert result["calibration_error"] == pytest.approx(error, rel=1e-5)
    assert counts == [2, 1]


def test_probabilities_give_the_same():
    def softmax(batch: np.ndarray) -> np.ndarray:
        powers = np.exp(batch)
        return powers / powers.sum(1, keepdims=True)

    result = training.evaluate(softmax, _images())
    assert result["loss"] == pytest.approx(LOSS, rel=1e-6)


@pytest.mark.parametrize(
    "rounded",
    [
        lambda x: tf.cast(tf.cast(x, tf.bfloat16), tf.float32).numpy(),
        lambda x: np.round(x * 256) / 256,
    ],
    ids=["bfloat16", "int8"],
)
def test_rounded_probabilities_are_no_logits(rounded: Callable):
    random = np.random.default_rng(0)
    powers = np.exp(3 * random.normal(size=(64, 10)))
    exact = powers / powers.sum(1, keepdims=True)
    labels = exact.argmax(1)
    images = tf.data.Dataset.from_tensor_slices((exact, labels)).batch(64)
    result = training.evaluate(rounded, images)
    wanted = -np.log(exact.max(1)).mean()
    # Half a step of the probability of each class, which is 0.3 or more mostly.
    assert result["loss"] == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda data: data.repeat(), "images is a tf.data.Dataset without an end"),
        (
            lambda data: data.map(lambda x, y: (x, y, tf.ones_like(y))),
            r"images is a data set of \(TensorSpec.*of batches of images and labels",
        ),
        (
            lambda data: data.map(lambda x, y: ({"x": x}, y)),
            r"images is a data set of \(\{'x'.*of batches of images and labels",
        ),
        (
            lambda data: data.map(lambda x, y: (x, tf.one_hot(y, 2))),
            r"labels of float32 and shape \(None, 2\), but they must be whole numbers",
        ),
        (
            lambda data: data.map(lambda x, y: (x, tf.cast(y, tf.float32))),
            r"labels of float32 and shape \(None,\), but they must be whole numbers",
        ),
        (
            lambda data: data.map(lambda x, y: (x, tf.as_string(y))),
            r"labels of string and shape \(None,\), but they must be whole numbers",
        ),
    ],
    ids=["endless", "weights", "named", "one-hot", "floats", "names"],
)
def test_data_sets_of_other_kinds_are_a_sentence(change: Callable, sentence: str):
    data = change(_images())
    with pytest.raises((TypeError, ValueError), match=sentence):
        training.evaluate(lambda batch: batch, data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_no_error(value: float):
    """As at the end of a training, which has its result nevertheless."""
    result = training.evaluate(lambda batch: np.full_like(batch, value), _images())
    assert np.isnan(result["loss"]) and result["examples"] == 3


def test_evaluate_agrees_with_keras():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(2,))])
    result = training.evaluate(model, _images())
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    loss, accuracy = model.evaluate(_images(), verbose=0)
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert result["accuracy"] == pytest.approx(accuracy, rel=1e-6)


def test_images_of_another_shape():
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    with pytest.raises(ValueError, match=r"shape \(3,\), but these have \(2,\)"):
        training.evaluate(model, _images())


def test_labels_beyond_the_classes():
    with pytest.raises(ValueError, match="labels go up to 1"):
        training.evaluate(lambda batch: batch[:, :1], _images())


def test_no_images():
    with pytest.raises(ValueError, match="There are no images"):
        training.evaluate(lambda batch: batch, _images().take(0))


def test_a_function_gets_the_numbers_of_its_model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(2,))])
    batches: list[np.ndarray] = []
    found = training.evaluate(model, _images(), each=lambda *b: batches.append(b[2]))
    assert training.evaluate(model.predict_on_batch, _images()) == found
    wanted = model.predict(LOGITS, verbose=0)
    np.testing.assert_allclose(np.concatenate(batches), wanted, rtol=1e-6)


@pytest.mark.convert
def test_a_file_gets_the_numbers_of_its_model(tmp_path: Path):
    keras.utils.set_random_seed(2)
    model = nobn.models.ReActNet18((8, 8, 1), 10, width=8, blocks=(1,))
    nobn.convert(model, tmp_path / "m.tflite", verify=False)
    images = nobn.data.load("digits", "test", 16, limit=40)
    in_keras = training.evaluate(model, images)
    in_file = training.evaluate(nobn.deploy.Runner(tmp_path / "m.tflite"), images)
    assert in_file == pytest.approx(in_keras, rel=1e-4)


@pytest.mark.parametrize("given", ["model.tflite", keras.Sequential, None])
def test_what_is_neither_a_model_nor_a_function(given: object):
    with pytest.raises(TypeError, match="is not a Keras model"):
        training.evaluate(given, _images())
