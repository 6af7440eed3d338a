"""How good a classifier is, in Keras or behind any other interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..._calibration_error import binned
from ..._keras import check_model, keras
from ..._probabilities import as_logits, log_partition

# As many as are usual for the expected calibration error.
_BINS = 15
# Images, labels, and what a classifier says of them.
Each = Callable[[np.ndarray, np.ndarray, np.ndarray], object]


def _pass_over(images: np.ndarray, labels: np.ndarray, logits: np.ndarray) -> None:
    """Nothing more is done with a batch."""


def evaluate(
    model: keras.Model,
    images: tf.data.Dataset,
    seen: Callable[[int], object] = int,
    each: Each = _pass_over,
) -> dict[str, float]:
    """Loss, accuracy and calibration of a Keras classifier, however it is compiled.

    Arguments:
        model: A classifier of images.
        images: Batches of images and integer labels.
        seen: Called after each batch with its number of images.
        each: Called with images, labels and logits of each batch, for whoever wants to
            know more.

    Returns:
        `loss` (mean cross-entropy), `accuracy`, `calibration_error` (expected, of 15
        bins) and `examples`.

    Raises:
        ValueError: If the model is not a classifier of such images.

    Example:
        ```python
        images = nobn.data.load("digits", "test", 128)
        model = nobn.training.open_model("runs/digits")
        print(nobn.training.evaluate(model, images)["accuracy"])
        ```
    """
    check_model(model)
    _check_batches(images)
    given, wanted = images.element_spec[0].shape[1:], model.input_shape
    if isinstance(wanted, list) or not given.is_compatible_with(wanted[1:]):
        raise ValueError(
            f"The model takes images of shape {wanted[1:]}, but these have "
            f"{tuple(given)}. Choose the data set that it was trained on."
        )
    return score(model.predict_on_batch, images, seen, each)


def _check_batches(images: object) -> None:
    spec = images.element_spec if isinstance(images, tf.data.Dataset) else None
    if not (isinstance(spec, tuple) and len(spec) > 1):
        raise TypeError(
            f"images is of type {type(images).__name__}, but it must be a "
            "tf.data.Dataset of batches of images and labels, as nobn.data.load "
            "returns."
        )


def score(
    predict: Callable[[np.ndarray], np.ndarray],
    images: tf.data.Dataset,
    seen: Callable[[int], object] = int,
    each: Each = _pass_over,
) -> dict[str, float]:
    """How good anything is that turns a batch of images into logits.

    Arguments:
        predict: Takes images (N, ...), returns logits or probabilities (N, classes).
        images: Batches of images and integer labels.
        seen: Called after each batch with its number of images.
        each: Called with images, labels and logits of each batch, for whoever wants to
            know more.

    Returns:
        `loss` (mean cross-entropy), `accuracy`, `calibration_error` (expected, of 15
        bins) and `examples`.

    Raises:
        ValueError: If the outputs do not fit the labels, or there are no images.

    Example:
        ```python
        images = nobn.data.load("digits", "test", 128)
        model = nobn.training.open_model("runs/digits")
        print(nobn.training.score(model.predict_on_batch, images)["loss"])
        ```
    """
    _check_batches(images)
    loss, examples = 0.0, 0
    confidence, right = [np.zeros(0)], [np.zeros(0, bool)]
    for batch, labels in images.as_numpy_iterator():
        outputs = np.asarray(predict(batch), np.float64)
        if outputs.ndim != 2 or labels.max() >= outputs.shape[1]:
            raise ValueError(
                f"The model's output has shape {outputs.shape}, but labels go up to "
                f"{labels.max()}. Choose the data set that it was trained on."
            )
        outputs = as_logits(outputs)
        partition = log_partition(outputs)
        picked = outputs[np.arange(len(labels)), labels]
        loss += float(np.sum(partition - picked))
        confidence.append(np.exp(outputs.max(1) - partition))
        right.append(outputs.argmax(1) == labels)
        examples += len(labels)
        each(batch, labels, outputs)
        seen(len(labels))
    if not examples:
        raise ValueError("There are no images to evaluate on. Give at least one.")
    hits = np.concatenate(right)
    return {
        "loss": loss / examples,
        "accuracy": float(hits.mean()),
        "calibration_error": binned(np.concatenate(confidence), hits, _BINS).error(),
        "examples": examples,
    }
