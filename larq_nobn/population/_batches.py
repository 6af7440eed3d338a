"""Reads what a caller gives as `data`: arrays, `(x, y)`, or batches of such."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras


def batches(
    data: Any, size: int, several: bool = False, most: int | None = None
) -> Iterator[tuple[Any, Any]]:
    """Yields examples and labels batch by batch; labels are None where there are none.

    Arguments:
        data: An array, `(x, y)`, or batches of either: a `tf.data.Dataset`, a
            `keras.utils.Sequence`, or, where only some are read, a generator.
        size: Examples per batch of arrays; batches stay as they are.
        several: Whether x is a list or dict of arrays, one per input of a model.
        most: How many examples are read at least, if there are so many; None for all.

    Raises:
        ValueError: If arrays differ in length, or all are wanted of what never ends.
    """
    given = _batches(data, size, several, endless=most is not None)
    count = 0
    for x, y in given:
        yield x, y
        count += len(tf.nest.flatten(x)[0])
        if most is not None and count >= most:
            return


def _batches(
    data: Any, size: int, several: bool, endless: bool
) -> Iterator[tuple[Any, Any]]:
    if isinstance(data, Iterator) and not endless:
        raise InvalidValue(
            "data is a generator, of which no end is known. Pass arrays, a "
            "keras.utils.Sequence or a tf.data.Dataset."
        )
    if (
        isinstance(data, tf.data.Dataset)
        and not endless
        and data.cardinality() == tf.data.INFINITE_CARDINALITY
    ):
        raise InvalidValue(
            "data is a tf.data.Dataset without an end. Give it one by .take(), or "
            "leave out .repeat()."
        )
    if isinstance(data, keras.utils.Sequence):  # which goes round for ever
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
            f"data contains arrays of {lengths} examples. Give each as many as the "
            "others."
        )
    for start in range(0, lengths[0], size):
        part = slice(start, start + size)
        taken = tf.nest.map_structure(lambda array, part=part: array[part], x)
        yield taken, labels[0][part] if labels else None


def _pair(data: Any) -> tuple[Any, Any]:
    """Examples and labels, if there are any; a third item would be weights."""
    if not isinstance(data, tuple) or not data:
        return data, None
    return data[0], data[1] if len(data) > 1 else None


def model_batches(
    model: keras.Model, data: Any, size: int, most: int | None = None
) -> Iterator[tuple[list[tf.Tensor], Any]]:
    """Yields the inputs of a functional model in its order, and labels, as `batches`.

    Raises:
        ValueError: If the data does not fit the inputs, contains no example, or never
            ends though all of it is wanted.
    """
    wanted = [tuple(given.shape[1:]) for given in model.inputs]
    empty = True
    for x, y in batches(data, size, len(wanted) > 1, most):
        parts = _parts(model, x)
        shapes = [tuple(part.shape[1:]) for part in parts]
        if len(shapes) != len(wanted) or not all(
            tf.TensorShape(shape).is_compatible_with(of)
            for shape, of in zip(shapes, wanted, strict=True)
        ):
            raise InvalidValue(
                f"data contains examples of shape {_listed(shapes)}, but the model "
                f"{model.name!r} takes {_listed(wanted)}. Pass arrays of such examples "
                "along the first axis (of one, x[np.newaxis]), or a tf.data.Dataset of "
                "batches of them."
            )
        if len(parts[0]):
            empty = False
            kinds = [given.dtype for given in model.inputs]
            yield [tf.cast(a, b) for a, b in zip(parts, kinds, strict=True)], y
    if empty:
        raise InvalidValue("data contains no example. Pass at least one.")


def _parts(model: keras.Model, x: Any) -> list[Any]:
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
