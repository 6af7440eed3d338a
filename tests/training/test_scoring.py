"""Loss and accuracy against a calculation by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from larq_nobn import data, training
from larq_nobn._keras import keras
from larq_nobn.data._images import balanced_subset

LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, -1.0]], np.float32)
LABELS = np.array([0, 1, 1])
# log(1 + e^-2), log(1 + e^-1) and log(1 + e^4), by hand.
LOSS = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0)) + np.log1p(np.exp(4.0))) / 3


def _images(batch_size: int = 2) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((LOGITS, LABELS)).batch(batch_size)


def test_logits():
    result = training.evaluate(lambda batch: batch, _images())
    assert result["loss"] == pytest.approx(LOSS, rel=1e-6)
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["examples"] == 3
    sure = 1 / (1 + np.exp([-2.0, -1.0, -4.0]))  # each in an interval of its own
    error = np.mean([1 - sure[0], 1 - sure[1], sure[2]])
    assert result["calibration_error"] == pytest.approx(error, rel=1e-5)

    def softmax(batch: np.ndarray) -> np.ndarray:
        powers = np.exp(batch)
        return powers / powers.sum(1, keepdims=True)

    assert training.evaluate(softmax, _images())["loss"] == pytest.approx(LOSS)


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


def test_data_sets_of_other_kinds_are_a_sentence():
    data = _images()
    for other in (
        data.repeat(),
        data.map(lambda x, y: (x, y, tf.ones_like(y))),
        data.map(lambda x, y: (x, tf.one_hot(y, 2))),
        data.unbatch(),
        LOGITS,
    ):
        sentence = f"images is a {type(other).__name__}.* whole numbers .N,. as"
        with pytest.raises(TypeError, match=sentence):
            training.evaluate(lambda batch: batch, other)


def test_outputs_that_are_not_finite_are_no_error():
    """As at the end of a training, which has its result nevertheless."""
    for value in (np.nan, np.inf, -np.inf):
        result = training.evaluate(lambda x, v=value: np.full_like(x, v), _images())
        assert np.isnan(result["loss"]) and result["examples"] == 3


def test_what_does_not_go_together_is_a_sentence():
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    with pytest.raises(ValueError, match=r"shape \(3,\), but these have \(2,\)"):
        training.evaluate(model, _images())
    with pytest.raises(ValueError, match="largest label is 1"):
        training.evaluate(lambda batch: batch[:, :1], _images())
    with pytest.raises(ValueError, match="There are no images"):
        training.evaluate(lambda batch: batch, _images().take(0))
    for given in (keras.Sequential, None):
        with pytest.raises(TypeError, match="is not a Keras model"):
            training.evaluate(given, _images())


def test_arrays_are_taken_as_train_takes_them(tiny_run: training.Run):
    """Bytes are prepared as in training, of an open model, a file, or a run."""
    digits = data.open_dataset("digits")
    labels = digits.labels("test")[:128]
    settings = tiny_run.record["settings"]
    batches = digits.batches("test", 128, limit=settings["limit"])
    wanted = training.evaluate(tiny_run.model, batches)["accuracy"]
    chosen = balanced_subset(digits.labels("test"), settings["limit"])
    pixels = digits.read(chosen, "test").astype(np.uint8)
    labels = digits.labels("test")[chosen]
    opened = training.open_model(tiny_run.folder)
    larger = np.kron(pixels, np.ones((1, 2, 2, 1), np.uint8))
    for model, images in ((tiny_run.model, pixels), (opened, larger)):
        for names in (labels, labels.astype(str), labels[:, None]):
            scores = training.evaluate(model, (images, names))
            assert (scores["accuracy"], scores["examples"]) == (wanted, 128)
    info = tiny_run.dataset
    floats = (pixels / 255 - info.mean) / info.std
    assert training.evaluate(opened, (floats, labels))["accuracy"] == wanted
    one = training.evaluate(opened, (pixels[:1], labels[:1]))
    assert one["examples"] == 1
    for given, sentence in (
        (
            (pixels, np.char.add(labels.astype(str), "x")),
            "of the images are not among the classes of digits: 0x, ",
        ),
        ((pixels, labels[:5]), "and labels of shape"),
        ((pixels,), "data contains tuple for the test images"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            training.evaluate(opened, given)
    with pytest.raises(ValueError, match="no mean and standard deviation to normalize"):
        training.evaluate(lambda batch: batch, (pixels, labels))
