"""Reads the `data` of callers: arrays, `(x, y)`, or batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras


def batches(
    data: Any, size: int, several: bool = False, most: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yields examples and labels batch by batch; labels are None if there are none.

    Arguments:
        data: An array, `(x, y)`, or batches of either: a `tf.data.Dataset`, a
            `keras.utils.Sequence` or, with `most`, a generator.
        size: Batch size for arrays; given batches are not changed.
        several: Whether x is a list or dict of arrays, one per input of a model.
        most: Stop once this many examples are read; None reads all.

    Raises:
        ValueError: If arrays differ in length, or endless data should be read to its
            end.
    """
    count = 0
    for x, y in _batches(data, size, several, endless=most is not None):
        yield x, y
        count += len(tf.nest.flatten(x)[0])
        if most is not None and count >= most:
            return


def _batches(
    data: Any, size: int, several: bool, endless: bool
) -> Iterator[tuple[Any, Any]]:
    if isinstance(data, Iterator) and not endless:
        raise InvalidValue(
            "data is a generator, which may be endless. Pass arrays, a "
            "keras.utils.Sequence or a tf.data.Dataset."
        )
    if (
        isinstance(data, tf.data.Dataset)
        and not endless
        and data.cardinality() == tf.data.INFINITE_CARDINALITY
    ):
        raise InvalidValue(
            "data is an endless tf.data.Dataset. Limit it by .take(), or leave out "
            ".repeat()."
        )
    if isinstance(data, keras.utils.Sequence):  # iterating it directly never ends
        data = map(data.__getitem__, range(len(data)))
    if isinstance(data, (tf.data.Dataset, Iterator)):
        yield from map(_pair, data)
        return
    x, y = _pair(data)
    several = several or isinstance(x, dict)
    x = tf.nest.map_structure(np.atleast_1d, x) if several else np.atleast_1d(x)
    labels = () if y is None else (np.atleast_1d(y),)
    lengths = [len(array) for array in (*tf.nest.flatten(x), *labels)]
    if not lengths:
        raise InvalidValue(
            "data contains no array. Pass x, (x, y) or a tf.data.Dataset."
        )
    if len(set(lengths)) > 1:
        raise InvalidValue(
            f"data contains arrays of {lengths} examples. All arrays need the same "
            "number."
        )
    for start in range(0, lengths[0], size):
        rows = slice(start, start + size)
        batch = tf.nest.map_structure(lambda array, rows=rows: array[rows], x)
        yield batch, labels[0][rows] if labels else None


def _pair(data: Any) -> tuple[Any, Any]:
    """Returns examples and labels or None; a third item would be example weights."""
    if not isinstance(data, tuple) or not data:
        return data, None
    return data[0], data[1] if len(data) > 1 else None


def model_batches(
    model: keras.Model, data: Any, size: int, most: int | None = None
) -> Iterator[tuple[list[tf.Tensor], Any]]:
    """Yields the inputs of a functional model, in its order, and labels.

    The arguments are those of `batches`.

    Raises:
        ValueError: If the data does not fit the inputs, contains no example, or is
            endless but should be read to its end.
    """
    wanted = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    empty = True
    for x, y in batches(data, size, len(wanted) > 1, most):
        inputs = _flat_inputs(model, x)
        shapes = [tuple(array.shape[1:]) for array in inputs]
        if len(shapes) != len(wanted) or not all(
            tf.TensorShape(shape).is_compatible_with(of)
            for shape, of in zip(shapes, wanted, strict=True)
        ):
            raise InvalidValue(
                f"data contains examples of shape {_listed(shapes)}, but the model "
                f"{model.name!r} takes {_listed(wanted)}. Pass arrays of such examples "
                "along the first axis (for one example, x[np.newaxis]), or a "
                "tf.data.Dataset of batches."
            )
        if len(inputs[0]):
            empty = False
            yield list(map(_numbers, inputs, model.inputs, model.input_names)), y
    if empty:
        raise InvalidValue("data contains no example. Pass at least one.")


def _numbers(part: Any, given: Any, name: str) -> tf.Tensor:
    """Returns examples of any numeric type in the type of an input."""
    array = part if tf.is_tensor(part) else np.asarray(part)
    if not tf.is_tensor(part) and given.dtype != tf.string:
        texts = any(isinstance(x, (str, bytes)) for x in array.flat[:1])
        if array.dtype.kind == "O" and not texts:
            with suppress(TypeError, ValueError):
                array = array.astype(np.float64)
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            array = array.astype(np.float64)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    is_object = array.dtype == np.dtype(object) and not tf.is_tensor(part)
    kind = tf.string if is_object else tf.as_dtype(array.dtype)
    if given.dtype != tf.string and (kind == tf.string or kind.is_complex):
        raise InvalidValue(
            f"data contains {'objects' if is_object else kind.name} for the input "
            f"{name!r}, which takes {given.dtype.name}. Pass numbers."
        )
    return tf.cast(array, given.dtype)


def _flat_inputs(model: keras.Model, x: Any) -> list[Any]:
    nested = model._nested_inputs
    names = sorted(nested if isinstance(nested, dict) else model.input_names)
    if isinstance(x, dict) and sorted(x) != names:
        raise InvalidValue(
            f"data contains inputs named {sorted(x)}, but the model {model.name!r} "
            f"takes {names}. Use these names."
        )
    return model._flatten_to_reference_inputs(x)


def _listed(shapes: list[tuple]) -> str:
    return " and ".join(map(str, shapes))
