"""How good a classifier is, in Keras or behind any other interpreter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..._keras import keras


def evaluate(
    model: keras.Model, images: tf.data.Dataset, seen: Callable[[int], object] = int
) -> dict[str, float]:
    """Loss and accuracy of a Keras classifier, however it is compiled.

    Arguments:
        model: A classifier of images.
        images: Batches of images and integer labels.
        seen: Called after each batch with its number of images.

    Returns:
        `loss` (mean cross-entropy), `accuracy` and `examples`.

    Raises:
        ValueError: If the model is not a classifier of such images.

    Example:
        ```python
        images = nobn.data.load("digits", "test", 128)
        model = nobn.training.open_model("runs/digits")
        print(nobn.training.evaluate(model, images)["accuracy"])
        ```
    """
    given, wanted = images.element_spec[0].shape[1:], model.input_shape
    if isinstance(wanted, list) or not given.is_compatible_with(wanted[1:]):
        raise ValueError(
            f"The model takes images of shape {wanted[1:]}, but these have "
            f"{tuple(given)}. Choose the data set that it was trained on."
        )
    return score(model.predict_on_batch, images, seen)


def score(
    predict: Callable[[np.ndarray], np.ndarray],
    images: tf.data.Dataset,
    seen: Callable[[int], object] = int,
) -> dict[str, float]:
    """Loss and accuracy of anything that turns a batch of images into logits.

    Arguments:
        predict: Takes images (N, ...), returns logits or probabilities (N, classes).
        images: Batches of images and integer labels.
        seen: Called after each batch with its number of images.

    Returns:
        `loss` (mean cross-entropy), `accuracy` and `examples`.

    Raises:
        ValueError: If the outputs do not fit the labels, or there are no images.

    Example:
        ```python
        images = nobn.data.load("digits", "test", 128)
        model = nobn.training.open_model("runs/digits")
        print(nobn.training.score(model.predict_on_batch, images)["loss"])
        ```
    """
    loss, correct, examples = 0.0, 0, 0
    for batch, labels in images.as_numpy_iterator():
        outputs = np.asarray(predict(batch), np.float64)
        if outputs.ndim != 2 or labels.max() >= outputs.shape[1]:
            raise ValueError(
                f"The model's output has shape {outputs.shape}, but labels go up to "
                f"{labels.max()}. Choose the data set that it was trained on."
            )
        outputs = _as_logits(outputs)
        picked = outputs[np.arange(len(labels)), labels]
        loss += float(np.sum(_log_partition(outputs) - picked))
        correct += int(np.sum(outputs.argmax(1) == labels))
        examples += len(labels)
        seen(len(labels))
    if not examples:
        raise ValueError("There are no images to evaluate on. Give at least one.")
    return {
        "loss": loss / examples,
        "accuracy": correct / examples,
        "examples": examples,
    }


def _as_logits(outputs: np.ndarray) -> np.ndarray:
    """Our networks end in logits; models from elsewhere may end in a softmax."""
    if (outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-3):
        return np.log(np.maximum(outputs, 1e-12))
    return outputs


def _log_partition(outputs: np.ndarray) -> np.ndarray:
    highest = outputs.max(1, keepdims=True)
    return highest[:, 0] + np.log(np.exp(outputs - highest).sum(1))
