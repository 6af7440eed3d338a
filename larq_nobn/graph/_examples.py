"""Made-up inputs of a model, to compare two forms of it on."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .._keras import keras
from ._graph import Graph, inputs_of

# Of an axis whose size is open.
_OPEN = 32
REGULAR = 5
# How many times as large the numbers of wide examples are.
_WIDE = 4


def made_up(flat: keras.Model, random: int) -> list[np.ndarray]:
    """Returns regular and random examples for every input of a model, in this order.

    Of the random ones, every third is of whole numbers, of which many are 0, so that
    sums of few terms reach exact ties; and every third is wide, so that pre-activations
    pass thresholds that stand far from 0.

    Arguments:
        flat: A functional model without models inside.
        random: How many random ones.
    """
    generator = np.random.default_rng(0)
    ids = _ids(flat)
    found = []
    for given in flat.inputs:
        shape = tuple(size or _OPEN for size in given.shape[1:])
        noise = generator.normal(size=(random, *shape))
        noise[1::3] *= _WIDE
        noise[2::3] = np.rint(noise[2::3])
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
    """How many ids an input may contain, for those that embeddings look up."""
    graph = Graph(flat)
    # Each tensor once: through residual sums, the number of paths grows exponentially.
    origins = {id(given): frozenset([id(given)]) for given in flat.inputs}
    found: dict[int, int] = {}
    for call in graph.calls:
        before = (origins.get(id(x), frozenset()) for x in inputs_of(call.node))
        starts = frozenset[int]().union(*before)
        for tensor in tf.nest.flatten(call.outputs):
            origins[id(tensor)] = starts
        if isinstance(call.layer, keras.layers.Embedding):
            for start in origins[id(call.first_input)]:
                known = found.get(start, call.layer.input_dim)
                found[start] = min(known, call.layer.input_dim)
    return found
