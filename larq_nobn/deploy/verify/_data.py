"""The examples that a conversion is verified on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ..._batches import model_batches
from ..._keras import keras
from ...graph import Graph, inputs_of
from .._errors import ConversionError

# LCE's interpreter on a PC runs unoptimized kernels.
_MOST = 256
_RANDOM = 27


def verification_examples(
    data: Any, model: keras.Model, flat: keras.Model
) -> tuple[list[np.ndarray], str]:
    """Returns examples for every input, and a word on where they are from.

    Arguments:
        data: An array, a list or dict of one per input, `(x, y)`, a batched
            `tf.data.Dataset` of either, or None for seeded noise and a few regular
            patterns.
        model: The model as it was given, whose inputs may have a structure.
        flat: The same in one graph of layers.

    Raises:
        ConversionError: If the data has the wrong shape, or there is none.
    """
    if data is None:
        return _made_up(flat), f"{_RANDOM} random and 5 regular inputs, seed 0"
    try:
        return _taken(model, data), "the given data"
    except ValueError as error:
        raise ConversionError(str(error)) from error


def _taken(model: keras.Model, data: Any) -> list[np.ndarray]:
    if isinstance(data, tf.data.Dataset):
        data = data.take(_MOST)  # it may have no end
    found: list[list[tf.Tensor]] = []
    for parts, _ in model_batches(model, data, _MOST):
        found.append(parts)
        if sum(len(first) for first, *_ in found) >= _MOST:
            break
    return [np.concatenate(arrays)[:_MOST] for arrays in zip(*found, strict=True)]


def _made_up(flat: keras.Model) -> list[np.ndarray]:
    """Returns regular and random examples for every input of a model, in this order."""
    random = np.random.default_rng(0)
    ids = _ids(flat)
    found = []
    for given in flat.inputs:
        shape = tuple(given.shape[1:])
        noise = random.normal(size=(_RANDOM, *shape))
        numbers = np.concatenate([_regular(shape), noise])
        dtype = given.dtype.as_numpy_dtype
        found.append(_in_range(numbers, np.dtype(dtype), ids.get(id(given))))
    return found


def _regular(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, ones, a ramp along the first and a middle axis, and a checkerboard."""
    if not shape:
        return np.linspace(-1, 1, 5)
    places = np.indices(shape).astype(float)
    ramps = [places[i] / max(shape[i] - 1, 1) for i in (0, len(shape) // 2)]
    checks = (places[: max(len(shape) - 1, 1)].sum(axis=0) % 2) * 2 - 1
    return np.stack([np.zeros(shape), np.ones(shape), *ramps, checks])


def _in_range(numbers: np.ndarray, dtype: np.dtype, ids: int | None) -> np.ndarray:
    """Turns numbers of about 0 to 1 in size into what an input is made for."""
    if dtype.kind == "b":
        return numbers > 0
    if ids is None and dtype.kind == "f":
        return numbers.astype(dtype)
    # Other integers are bytes, as cameras give them.
    low = -128 if dtype == np.int8 else 0
    high = low + (256 if ids is None else ids)
    spread = low + (high - low) * (0.5 + numbers / 5)
    return np.floor(np.clip(spread, low, high - 1)).astype(dtype)


def _ids(flat: keras.Model) -> dict[int, int]:
    """How many ids an input may hold, for those that embeddings look up."""
    graph = Graph(flat)
    found: dict[int, int] = {}
    for call in graph.calls:
        if isinstance(call.layer, keras.layers.Embedding):
            for start in _origins(graph, call.first_input):
                known = found.get(start, call.layer.input_dim)
                found[start] = min(known, call.layer.input_dim)
    return found


def _origins(graph: Graph, tensor: Any) -> Iterator[int]:
    call = graph.producer(tensor)
    if call is None:
        yield id(tensor)
        return
    for before in inputs_of(call.node):
        yield from _origins(graph, before)
