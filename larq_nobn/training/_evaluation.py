"""How good a classifier is, in Keras or in any other interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidType, InvalidValue
from .._keras import check_model, keras, keras_3, of_keras_3
from ..data import batches_of
from ..loading import described
from ..population import Scores

# Images, labels, and what a classifier says of them.
Each = Callable[[np.ndarray, np.ndarray, np.ndarray], object]


def evaluate(
    model: keras.Model | Callable[[np.ndarray], Any],
    images: tf.data.Dataset | tuple[Any, Any],
    each: Each | None = None,
) -> dict[str, float]:
    """Returns loss, accuracy and calibration of a classifier.

    Arguments:
        model: A Keras classifier of images, however it is compiled, or one of Keras 3,
            the
            `larq_nobn.deploy.Runner` of a `.tflite` file, or another function that
            returns logits or probabilities (N, classes) for images (N, ...). A model
            that was made under a `tf.distribute` strategy computes on the first replica
            of each worker; all workers call it, with the same images.
        images: Batches of images and integer labels; or (images, labels) as arrays, as
            `train` takes them: bytes, which are prepared as in the training of a model
            that this package trained or opened, or normalized floats.
        each: Called with images, labels and logits of each batch, for whoever wants to
            know more, or shows progress.

    Returns:
        `loss` (mean cross-entropy), `accuracy`, `calibration_error` (expected, of 15
        bins) and `examples`.

    Raises:
        TypeError: If `model` is neither of the two, or `images` is no such data set.
        ValueError: If it is not a classifier of such images, or there are none.

    Example:
        ```python
        images = nobn.data.load("digits", "test", 128)
        model = nobn.training.open_model("runs/digits")
        print(nobn.training.evaluate(model, images)["accuracy"])
        print(nobn.training.evaluate(model.predict_on_batch, images)["loss"])
        ```
    """
    predict: Any = model
    of_3 = of_keras_3(model) and isinstance(model, keras_3().Model)
    is_model = isinstance(model, keras.Model) or of_keras_3(model)
    if not of_3 and (is_model or not callable(model) or isinstance(model, type)):
        check_model(model)
    if isinstance(images, (tuple, list)):
        images = batches_of(images, described(model))
    spec: Any = images.element_spec if isinstance(images, tf.data.Dataset) else None
    pair = isinstance(spec, tuple) and [*map(type, spec)] == [tf.TensorSpec] * 2
    numbers = pair and spec[1].dtype.is_integer and spec[1].shape.rank == 1
    if not numbers or images.cardinality() == tf.data.INFINITE_CARDINALITY:
        of = "" if spec is None else f" of {spec}"
        raise InvalidType(
            f"images is a {type(images).__name__}{of}, but it must be a "
            "tf.data.Dataset with an end, of batches of images and whole numbers (N,) "
            "as labels, as nobn.data.load and Dataset.batches return, or (images, "
            "labels) as arrays."
        )
    if is_model:
        # A subclassed model of Keras 3 does not say it.
        given = spec[0].shape[1:]
        wanted = getattr(predict, "input_shape", (None, *given))
        one = isinstance(wanted, tuple)  # input, without a name
        if not one or not given.is_compatible_with(wanted[1:]):
            raise InvalidValue(
                f"The model takes images of shape {wanted[1:] if one else wanted}, but "
                f"these have {tuple(given)}. Choose the data that it was trained on."
            )
        network = predict
        if of_3 or network.distribute_strategy.num_replicas_in_sync == 1:
            predict = network.predict_on_batch
        else:  # Keras would share out each batch among the workers
            batches = tf.TensorSpec(wanted, network.input.dtype)
            predict = tf.function(lambda x: network(x, training=False), [batches])
    scores = Scores()
    for batch, labels in images.as_numpy_iterator():
        logits = scores.update(predict(batch), labels)
        if each is not None:
            each(batch, labels, logits)
    return scores.to_dict()
