"""Generates inputs of a model, on which two forms of it are compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature

import numpy as np
import tensorflow as tf

from .._errors import InvalidValue
from .._keras import keras
from ._errors import raised_by
from ._graph import Call, calls_of, inputs_of
from ._models import UNCALLED, inference

# Sizes to try for an axis of unknown size, the most usual one first.
SIZES = (32, 64, 128, 224, 28, 16, 8)
# Finds the bound in TensorFlow's error about an id beyond a table; most calls to try.
_BOUND, _TRIES = re.compile(r"is not in \[0, (\d+)\)"), 8
# Factors on the numbers of wide examples, and of far ones.
_WIDE = 4
_FAR = (1e3, 1e5)


def made_up(flat: keras.Model, random: int, size: int = SIZES[0]) -> list[np.ndarray]:
    """Returns regular and random examples for every input of a model, in order.

    Of the random ones, a third has whole numbers, many of them 0, so that sums of few
    terms reach exact ties. Another third is wide, so that pre-activations pass
    thresholds far from 0. If a model masks steps, every other example has masked steps,
    at its end or its start.

    Arguments:
        flat: A functional model without nested models.
        random: The number of random examples.
        size: The size of axes of unknown size.
    """
    generator = np.random.default_rng(0)
    ids, padding = _ids_and_padding(flat)
    arrays = []
    for tensor in flat.inputs:
        shape = tuple(side or size for side in tensor.shape[1:])
        noise = generator.normal(size=(random, *shape))
        noise[1::3] *= _WIDE
        noise[2::3] = np.rint(noise[2::3])
        numbers = np.concatenate([_regular(shape), noise])
        dtype = np.dtype(tensor.dtype.as_numpy_dtype)
        array = in_range(numbers, dtype, ids.get(id(tensor)))
        if id(tensor) in padding and shape:
            _pad(array, padding[id(tensor)])
        arrays.append(array)
    return arrays


def with_far(
    flat: keras.Model,
    examples: list[np.ndarray],
    run: Callable[[list[np.ndarray]], list[np.ndarray]] | None = None,
) -> list[np.ndarray]:
    """Returns the examples, followed by some of far larger numbers than usual.

    They show where a function saturates, or where one form of it overflows. They are
    left out where the outputs of the model are not finite, as computed by `run` or by
    the model itself.
    """
    (ids, _), generator = _ids_and_padding(flat), np.random.default_rng(1)
    run = run or partial(called, flat)
    is_real = [x.dtype.is_floating and id(x) not in ids for x in flat.inputs]
    for factor in _FAR if any(is_real) else ():
        noise = (factor * generator.normal(size=x.shape[1:]) for x in examples)
        pairs = zip(examples, noise, is_real, strict=True)
        more = [x.astype(a.dtype) if real else a[-1] for a, x, real in pairs]
        try:
            outputs = run([np.stack([x] * batch_of(flat)) for x in more])
        except (InvalidValue, tf.errors.ResourceExhaustedError):
            continue
        if all(np.isfinite(x).all() for x in outputs):
            both = zip(examples, more, strict=True)
            examples = [np.concatenate([a, x[np.newaxis]]) for a, x in both]
    return examples


def called(model: keras.Model, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the outputs of a model at inference.

    Raises:
        LayerError: If some layer cannot be called on the examples.
    """
    with raised_by(model, UNCALLED):
        return [x.numpy() for x in inference(model, tensors_of(model, examples))]


def tensors_of(model: keras.Model, examples: Sequence[np.ndarray]) -> list[tf.Tensor]:
    pairs = zip(examples, model.inputs, strict=True)
    return [tf.constant(array, tensor.dtype) for array, tensor in pairs]


def batch_of(model: keras.Model, usual: int = 1) -> int:
    """Returns how many examples a model takes at once; `usual` if any number."""
    return next(filter(None, (tensor.shape[0] for tensor in model.inputs)), usual)


def _regular(shape: tuple[int, ...]) -> np.ndarray:
    """Returns zeros, ones, ramps along two axes, and a checkerboard."""
    if not shape:
        return np.linspace(-1, 1, 5)
    places = np.indices(shape).astype(float)
    ramps = [places[i] / max(shape[i] - 1, 1) for i in (0, len(shape) // 2)]
    checks = (places[: max(len(shape) - 1, 1)].sum(axis=0) % 2) * 2 - 1
    return np.stack([np.zeros(shape), np.ones(shape), *ramps, checks])


def in_range(numbers: np.ndarray, dtype: np.dtype, ids: int | None) -> np.ndarray:
    """Converts numbers of about 0 to 1 in size to the type of an input, such as ids."""
    if dtype.kind == "b":
        return numbers > 0
    if dtype.kind == "O":
        return np.rint(numbers).astype(int).astype(str).astype(object)
    if ids is None and dtype.kind == "f":
        return numbers.astype(dtype)
    # Other integers are taken for bytes, as of images.
    low, high = (0, ids) if ids else (-128, 128) if dtype == np.int8 else (0, 256)
    spread = low + (high - low) * (0.5 + numbers / 5)
    return np.floor(np.clip(spread, low, high - 1)).astype(dtype)


def _pad(array: np.ndarray, padding: float) -> None:
    """Masks some steps of every other example, and never all of them, in place."""
    steps = array.shape[1]
    masked = (array == padding).reshape(len(array), steps, -1).all(axis=2)
    array[masked.all(axis=1)] = padding + 1  # a mean of no steps is NaN
    for row in range(0, len(array), 2):
        count = row // 2 % steps  # none, and up to all but one
        where = slice(steps - count, None) if row % 4 == 0 else slice(count)
        left = slice(steps - count) if row % 4 == 0 else slice(count, None)
        array[row, where] = padding
        if masked[row, left].all():
            array[row, left] = padding + 1


def _ids_and_padding(flat: keras.Model) -> tuple[dict[int, int], dict[int, float]]:
    """Returns the number of ids an input may contain, and the number that masks a step.

    The keys are the id() of inputs: of those that are looked up, or masked.
    """
    ids: dict[int, int] = {}
    padding: dict[int, float] = {}
    # Each tensor is visited once: residual sums multiply the number of paths.
    origins = {id(tensor): frozenset([id(tensor)]) for tensor in flat.inputs}
    for call in calls_of(flat):
        layer, none = call.layer, frozenset[int]()
        starts = none.union(*(origins.get(id(x), none) for x in inputs_of(call.node)))
        for tensor in tf.nest.flatten(call.outputs):
            origins[id(tensor)] = starts
        first = origins.get(id(call.first_input), none)
        if isinstance(layer, keras.layers.Masking):
            padding |= dict.fromkeys(first, layer.mask_value)
        elif isinstance(layer, keras.layers.Embedding):
            padding |= dict.fromkeys(first if layer.mask_zero else (), 0)
        count = _vocabulary(call)
        if count is not None:
            ids |= {x: min(ids.get(x, count), count) for x in starts}
    return ids, padding


def _vocabulary(call: Call) -> int | None:
    """Returns how many ids a call can look up; None if it looks up none."""
    layer = call.layer
    if isinstance(layer, keras.layers.Embedding):
        return layer.input_dim
    if isinstance(layer, keras.layers.CategoryEncoding):
        return layer.num_tokens
    function = getattr(layer, "function", None)
    if function not in (tf.one_hot, tf.gather, tf.nn.embedding_lookup):
        return None
    node = call.node
    arguments = signature(function).bind(*node.call_args, **node.call_kwargs).arguments
    if function is tf.one_hot:
        depth = tf.get_static_value(arguments["depth"])
        return None if depth is None else int(depth)
    params, axis = arguments["params"], arguments.get("axis") or 0
    if hasattr(params, "_keras_history"):  # the model computes the table
        return None
    count: int = tf.convert_to_tensor(params).shape[axis]
    return count


def in_vocabulary(
    examples: list[np.ndarray], run: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> list[np.ndarray]:
    """Returns examples whose ids a model can look up; its errors tell the bounds."""
    ids = [place for place, array in enumerate(examples) if array.dtype.kind in "iu"]
    for _ in range(_TRIES if ids else 0):
        try:
            run(examples)
            break
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            bound = _BOUND.search(str(error))
        if bound is None:
            break
        largest = max(int(examples[place].max()) for place in ids)
        count = max(min(int(bound[1]), largest), 1)
        examples = [*examples]
        for place in ids:
            examples[place] %= examples[place].dtype.type(count)
    return examples
