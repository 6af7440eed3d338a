"""The examples that a conversion is verified on."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from ..._keras import keras
from ..._names import ON_GIVEN_DATA
from ...graph import _examples
from ...population._batches import model_batches
from .._errors import ConversionError

# LCE's interpreter on a PC runs unoptimized kernels.
_MOST = 256
# Of large inputs, each segment sees thousands of numbers in a few examples.
_RANDOM, _RANDOM_LARGE = 27, 3
_LARGE = 128 * 128 * 3


def verification_examples(
    data: Any, model: keras.Model, flat: keras.Model, name: str = ON_GIVEN_DATA
) -> tuple[list[np.ndarray], str]:
    """Returns examples for every input, and a word on where they are from.

    Without data it is seeded noise, of which some is far larger than what a network
    sees, and a few regular patterns. `model` is the given one, `flat` the same in one
    graph.
    """
    if data is None:
        size = sum(prod(given.shape[1:]) for given in flat.inputs)
        random = _RANDOM if size < _LARGE else _RANDOM_LARGE
        usual = _examples.made_up(flat, random)
        examples = _examples.with_far(flat, usual)
        far = len(examples[0]) - len(usual[0])
        said = f"{random} random and 5 regular inputs, {far} of large numbers, seed 0"
        return examples, said
    batches = [parts for parts, _ in given_batches(model, data, _MOST, _MOST)]
    arrays = [np.concatenate(parts)[:_MOST] for parts in zip(*batches, strict=True)]
    return arrays, name


def given_batches(
    model: keras.Model, data: Any, size: int, most: int | None = None
) -> Iterator[Any]:
    """Yields inputs and labels of given data, in batches."""
    try:
        yield from model_batches(model, data, size, most)
    except ValueError as error:
        raise ConversionError(str(error)) from error
