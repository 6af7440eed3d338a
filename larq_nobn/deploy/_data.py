"""The examples that a conversion is verified on."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .._batches import batches
from ._errors import ConversionError

# LCE's interpreter on a PC takes one example at a time, through unoptimized kernels.
_MOST = 256
_RANDOM = 27


def verification_examples(data: Any, spec: tf.TensorSpec) -> tuple[np.ndarray, str]:
    """Returns examples for a model of input `spec`, and a word on where they are from.

    Arguments:
        data: An array, `(x, y)`, a batched `tf.data.Dataset` of either, or None for
            seeded noise and a few regular patterns.
        spec: Shape (1, ...) and type of one example.

    Raises:
        ConversionError: If the data has the wrong shape, or there is none.
    """
    if data is None:
        return _made_up(spec), f"{_RANDOM} random and 5 regular inputs, seed 0"
    examples = _taken(data)
    if not len(examples):
        raise ConversionError(
            "data holds no example to verify on. Pass at least one, or data=None."
        )
    if examples.shape[1:] != tuple(spec.shape[1:]):
        raise ConversionError(
            f"data holds examples of shape {examples.shape[1:]}, but the model takes "
            f"{tuple(spec.shape[1:])}. Pass an array of shape (examples, "
            f"{', '.join(map(str, spec.shape[1:]))}), or batches of such."
        )
    return examples.astype(spec.dtype.as_numpy_dtype), "the given data"


def _taken(data: Any) -> np.ndarray:
    found: list[np.ndarray] = []
    for x, _ in batches(data, _MOST):
        found.append(np.asarray(x))
        if sum(map(len, found)) >= _MOST:
            break
    return np.concatenate(found)[:_MOST] if found else np.zeros(0)


def _made_up(spec: tf.TensorSpec) -> np.ndarray:
    shape = tuple(spec.shape[1:])
    noise = np.random.default_rng(0).normal(size=(_RANDOM, *shape))
    places = np.indices(shape).astype(float)
    down = places[0] / max(shape[0] - 1, 1)
    across = places[len(shape) // 2] / max(shape[len(shape) // 2] - 1, 1)
    checks = (places[: max(len(shape) - 1, 1)].sum(axis=0) % 2) * 2 - 1
    regular = np.stack([np.zeros(shape), np.ones(shape), down, across, checks])
    examples = np.concatenate([noise, regular])
    if spec.dtype.is_integer:  # bytes, as cameras give them
        examples = np.clip(128 + 50 * examples, 0, 255)
    return examples.astype(spec.dtype.as_numpy_dtype)
