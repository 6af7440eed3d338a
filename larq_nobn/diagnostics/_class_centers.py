from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from .._batches import batches
from .._errors import InvalidType, InvalidValue
from .._keras import check_model, keras
from .._larq import kernel_in_layer, unmeasured
from ..callbacks._kernels import QuantizedKernel
from ..callbacks._monitor import named_layers
from ..layers import SymmetricHead
from ._alignment import ClassCenterAlignment


def class_center_alignment(model: keras.Model, data: Any) -> ClassCenterAlignment:
    r"""Returns the angles between a classifier's weight vectors and its class centers.

    With the weight vector \(w_k\) of class \(k\) in the last dense layer and the mean
    \(c_k\) of that layer's inputs over the examples of the class,

    \[ \cos_k = \frac{w_k \cdot c_k}{\|w_k\| \|c_k\|}, \qquad
       \Big\|\sum_k w_k\Big\|, \qquad
       \angle_{jk} = \arccos \frac{w_j \cdot w_k}{\|w_j\| \|w_k\|} . \]

    A classifier whose weights point at the centers of its classes has cosines near 1,
    and one that treats all classes alike has weight vectors that add up to zero and
    angles that are all the same. The layer is `head` if that is a dense layer or a
    `layers.SymmetricHead`, else the last of these, of models inside the model too. If
    it is quantized, weights and inputs are those after the quantizers. The bias plays
    no part. The network runs as at inference, and neither it nor its metrics change.

    Arguments:
        model: A classifier with weights.
        data: `(images, labels)`, or batches of such as a `tf.data.Dataset`. Labels are
            whole numbers, or one-hot with as many columns as the layer has units.

    Returns:
        The findings: `print` shows them, `to_dict()` gives JSON. A class without
        examples has the cosine NaN.

    Raises:
        TypeError: If `data` is neither of these.
        ValueError: For a model without weights or without a dense layer, a layer with
            fewer than two units or with more than one vector of inputs per example,
            labels that do not fit, or no examples.

    Example:
        ```python
        import larq_nobn as nobn

        model = nobn.models.ReActNet18((8, 8, 1), 10, width=16, blocks=(1, 1))
        images = nobn.data.load("digits", "test", 128)
        print(nobn.class_center_alignment(model, images))
        ```

    References:
        - I. Kansizoglou, L. Bampis, A. Gasteratos, "Do Neural Network Weights Account
          for Classes Centers?", IEEE Transactions on Neural Networks and Learning
          Systems, 2022, arXiv:2104.07004.

    Differences from the paper:
        The paper derives where weights and centers should lie; this measures where they
        do. The spread of the angles is an addition.
    """
    name, head = _last_dense(model)
    weights = _kernel(head).T.astype(np.float64)
    sums, examples = np.zeros_like(weights), np.zeros(len(weights), int)
    for features, labels in _features(model, head, _pairs(data)):
        classes = _classes(labels, len(weights))
        if features.ndim != 2:
            raise InvalidValue(
                f"The layer {name} takes inputs of shape {features.shape}, more than "
                "one vector per example. Pass a classifier that ends in a dense layer "
                "on rank-2 features."
            )
        np.add.at(sums, classes, features)
        examples += np.bincount(classes, minlength=len(weights))
    if not examples.any():
        raise InvalidValue("data contains no examples. Give at least one per class.")
    centers = sums / np.where(examples, examples, np.nan)[:, None]
    angles = _angles(weights)
    weight_norm, center_norm = _lengths(weights), _lengths(centers)
    return ClassCenterAlignment(
        layer=name,
        examples=tuple(examples.tolist()),
        cosine=tuple(
            _ratio((weights * centers).sum(1), weight_norm * center_norm).tolist()
        ),
        weight_norm=tuple(weight_norm.tolist()),
        center_norm=tuple(center_norm.tolist()),
        weight_sum_norm=float(np.linalg.norm(weights.sum(0))),
        angle_mean=float(angles.mean()),
        angle_std=float(angles.std()),
        angle_min=float(angles.min()),
        angle_max=float(angles.max()),
    )


def _last_dense(model: keras.Model) -> tuple[str, keras.layers.Layer]:
    check_model(model)
    if not model.built:
        raise InvalidValue(
            f"The model {model.name} has no weights yet. Build it or call it on data "
            "before looking at its last layer."
        )
    dense = [
        (name, layer)
        for name, layer in named_layers(model)
        if isinstance(layer, (keras.layers.Dense, SymmetricHead))
    ]
    if not dense:
        raise InvalidValue(
            f"The model {model.name} has no dense layer whose weights could be class "
            "vectors. Pass a classifier that ends in Dense, QuantDense or "
            "SymmetricHead."
        )
    heads = [pair for pair in dense if pair[1].name == "head"]
    name, layer = (heads or dense)[-1]
    if not isinstance(layer, SymmetricHead) and layer.units < 2:
        raise InvalidValue(
            f"The layer {name} has units={layer.units}, but angles need two classes or "
            "more. Pass a classifier with one unit per class."
        )
    return name, layer


def _kernel(head: keras.layers.Layer) -> np.ndarray:
    """The kernel as the forward pass sees it."""
    if isinstance(head, SymmetricHead):
        return tf.cast(head.class_vectors(), head.compute_dtype).numpy()
    if getattr(head, "kernel_quantizer", None) is None:
        return kernel_in_layer(head, head.kernel).numpy()
    return QuantizedKernel(head, head.kernel).value().numpy()


def _pairs(data: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Images and labels, batch by batch."""
    for images, labels in batches(tuple(data) if isinstance(data, list) else data, 128):
        if labels is None or np.ndim(labels) == 0:
            raise InvalidType(
                f"data, a {type(data).__name__}, is neither (images, labels) nor "
                "batches of such. Pass one of them; a tf.data.Dataset of single "
                "examples needs .batch()."
            )
        yield images, np.asarray(labels)


def _features(
    model: keras.Model, head: keras.layers.Layer, pairs: Iterator[tuple]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs of `head` and labels, batch by batch."""
    with _listening(head) as heard:

        @tf.function
        def run(images: Any) -> tf.Tensor:
            model(images, training=False)
            if not heard:
                raise InvalidValue(
                    f"The model {model.name} does not use its last dense layer "
                    f"{head.name} at inference. Name the classifier 'head'."
                )
            return heard.pop()

        for images, labels in pairs:
            yield run(images).numpy().astype(np.float64), labels


@contextmanager
def _listening(head: keras.layers.Layer) -> Iterator[list[tf.Tensor]]:
    """Collects what meets the weights of a layer, however the model calls it."""
    heard: list[tf.Tensor] = []
    given = head.call

    def call(inputs: tf.Tensor) -> tf.Tensor:
        quantizer = getattr(head, "input_quantizer", None)
        with unmeasured(quantizer):
            heard.append(inputs if quantizer is None else quantizer(inputs))
        return given(inputs)

    head.call = call
    try:
        yield heard
    finally:
        del head.call


def _classes(labels: np.ndarray, count: int) -> np.ndarray:
    """Labels as whole numbers, (N,)."""
    if labels.ndim == 2 and labels.shape[1] == count:
        return labels.argmax(1)
    classes = labels.reshape(len(labels), -1)
    if classes.shape[1] != 1 or np.any(classes != classes.astype(int)):
        raise InvalidValue(
            f"Labels of shape {labels.shape} and type {labels.dtype} are neither whole "
            f"numbers nor one-hot with {count} columns. Pass one class per example."
        )
    classes = classes[:, 0].astype(int)
    if classes.size and not 0 <= classes.min() <= classes.max() < count:
        raise InvalidValue(
            f"Labels go from {classes.min()} to {classes.max()}, but the last dense "
            f"layer has {count} units. Choose the data that it was trained on."
        )
    return classes


def _lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _angles(vectors: np.ndarray) -> np.ndarray:
    """Angles between any two vectors, in degrees."""
    first, second = np.triu_indices(len(vectors), 1)
    lengths = _lengths(vectors)
    cosines = _ratio(
        (vectors @ vectors.T)[first, second], (lengths[first] * lengths[second])
    )
    return np.degrees(np.arccos(np.clip(cosines, -1, 1)))
