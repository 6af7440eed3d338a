"""Evaluates a classifier that runs in Keras or in any other runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidType, InvalidValue
from .._keras import check_model, keras, of_keras_3
from ..data import batches_of
from ..loading import described, open_path
from ..loading._foreign import source_of
from ..population import Scores

# Called with images, labels and the outputs of the classifier.
Each = Callable[[np.ndarray, np.ndarray, np.ndarray], object]


def evaluate(
    model: keras.Model | Callable[[np.ndarray], Any],
    images: tf.data.Dataset | tuple[Any, Any],
    each: Each | None = None,
) -> dict[str, float]:
    """Returns loss, accuracy and calibration of a classifier.

    Arguments:
        model: A Keras classifier of images, compiled or not, also of Keras 3; the
            folder of a SavedModel; the `larq_nobn.deploy.Runner` of a `.tflite` file;
            or another function that returns logits or probabilities (N, classes) for
            images (N, ...). A model built under a `tf.distribute` strategy runs on the
            first replica of each worker; all workers must call this function, with the
            same images.
        images: Batches of images and integer labels; or (images, labels) as arrays, as
            in `train`: bytes, which are normalized as in the training of a model that
            this package has trained or opened, or normalized floats.
        each: Called with images, labels and logits of each batch, for further metrics
            or to show progress.

    Returns:
        `loss` (mean cross-entropy), `accuracy`, `calibration_error` (expected
        calibration error, 15 bins) and `examples`.

    Raises:
        TypeError: If `model` or `images` has another type.
        ValueError: If the model does not classify such images, or there are none.

    Example:
        ```python
        images = nobn.data.load("digits", "test", 128)
        model = nobn.training.open_model("runs/digits")
        print(nobn.training.evaluate(model, images)["accuracy"])
        print(nobn.training.evaluate(model.predict_on_batch, images)["loss"])
        ```
    """
    model = predict = open_path(model)
    is_model, wanted = isinstance(model, keras.Model), None
    if is_model:  # a subclassed one may not say its shape
        wanted = getattr(model, "input_shape", None)
    elif source := source_of(model):
        predict = tf.function(source.layer.function, autograph=False)
        wanted = source.shape
    elif not callable(model) or isinstance(model, type) or of_keras_3(model):
        check_model(model)
    if isinstance(images, (tuple, list)):
        images = batches_of(images, described(model))
    spec: Any = images.element_spec if isinstance(images, tf.data.Dataset) else None
    pair = isinstance(spec, tuple) and [*map(type, spec)] == [tf.TensorSpec] * 2
    numbers = pair and spec[1].dtype.is_integer and spec[1].shape.rank == 1
    if not numbers or images.cardinality() == tf.data.INFINITE_CARDINALITY:
        of = "" if spec is None else f" of {spec}"
        raise InvalidType(
            f"images is a {type(images).__name__}{of}, but it must be a finite "
            "tf.data.Dataset of batches of images and whole numbers (N,) as labels, as "
            "nobn.data.load and Dataset.batches return, or (images, labels) as arrays."
        )
    shape = spec[0].shape[1:]
    one = isinstance(wanted, tuple)  # a single input without a name
    if wanted is not None and not (one and shape.is_compatible_with(wanted[1:])):
        raise InvalidValue(
            f"The model takes images of shape {wanted[1:] if one else wanted}, but "
            f"these have {tuple(shape)}. Choose the data that it was trained on."
        )
    if is_model and model.distribute_strategy.num_replicas_in_sync == 1:
        predict = model.predict_on_batch
    elif is_model:  # Keras would divide each batch among the workers
        batches = tf.TensorSpec(wanted, model.input.dtype)
        predict = tf.function(lambda x: model(x, training=False), [batches])
    scores = Scores()
    for batch, labels in images.as_numpy_iterator():
        logits = scores.update(predict(batch), labels)
        if each is not None:
            each(batch, labels, logits)
    return scores.to_dict()
