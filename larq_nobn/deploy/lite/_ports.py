"""What goes into a network and what comes out: names, order, and batches of it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from .._errors import ConversionError

# What LCE's interpreter takes and gives.
_TYPES = ("float32", "uint8", "int8", "int16", "int32", "int64", "bool")

# Of a model that takes any number of examples, how many it is given.
_BATCH = 32

# One array or tensor per input, in the order of the Keras model; one per output.
Function = Callable[[Sequence[Any]], Sequence[Any]]


class Ports(NamedTuple):
    """The inputs and outputs of a file, in the order of the Keras model.

    The inputs are the shape of a batch, its type and its name; the outputs are names.
    """

    inputs: list[tf.TensorSpec]
    outputs: list[str]

    @property
    def batch_size(self) -> int:
        """How many examples the file takes at once."""
        return int(self.inputs[0].shape[0])

    def zeros(self) -> list[np.ndarray]:
        """Returns one batch that the file must be able to take."""
        return [np.zeros(i.shape, i.dtype.as_numpy_dtype) for i in self.inputs]


def ports_of(model: keras.Model, batch_size: int = 1) -> Ports:
    """Returns what the file of a model takes and gives.

    What there is several of has the names that Keras asks for or answers with: the keys
    of a dict, else those of the layers. What there is one of is `input` or `output`.

    Raises:
        ConversionError: If an input is of a type that LCE does not know.
    """
    for given, name in zip(model.inputs, model.input_names, strict=True):
        if given.dtype.name not in _TYPES:
            raise ConversionError(
                f"Input {name!r} of model {model.name!r} is {given.dtype.name}, but "
                f"LCE takes {', '.join(_TYPES)} only. Build the model with one of "
                "them as the dtype of keras.Input."
            )
    names = _names("input", model._nested_inputs, model.input_names)
    inputs = [
        tf.TensorSpec((batch_size, *given.shape[1:]), given.dtype, name)
        for given, name in zip(model.inputs, _identifiers(names), strict=True)
    ]
    return Ports(inputs, _names("output", model._nested_outputs, model.output_names))


def _names(alone: str, nested: Any, layers: Sequence[str]) -> list[str]:
    if len(layers) == 1:
        return [alone]
    keyed = isinstance(nested, dict) and len(nested) == len(layers)
    return sorted(map(str, nested)) if keyed else list(layers)


def _identifiers(names: Iterable[str]) -> list[str]:
    """Makes names what TensorFlow takes for arguments: unlike even in small letters."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        if keyword.iskeyword(plain) or not plain[:1].isalpha():
            plain = f"input_{plain}"
        taken = {other.lower() for other in found}
        tries = (f"{plain}_{count}" for count in range(1, len(found) + 2))
        found.append(next(n for n in (plain, *tries) if n.lower() not in taken))
    return found


def inference(model: keras.Model) -> Function:
    """Returns the model's inference function, from a list and to a list of tensors."""

    def function(inputs: Sequence[Any]) -> list[Any]:
        packed = tf.nest.pack_sequence_as(model._nested_inputs, list(inputs))
        return tf.nest.flatten(model(packed, training=False))

    return function


def in_batches(
    function: Function, examples: Sequence[np.ndarray], size: int
) -> list[np.ndarray]:
    """Applies a function to all examples, in batches of one size.

    The last batch is filled up with its last example, whose results are cut off again:
    there are models and files that take no other number.
    """
    found = []
    for start in range(0, len(examples[0]), size):
        parts = [array[start : start + size] for array in examples]
        missing = size - len(parts[0])
        if missing:
            parts = [np.concatenate([p, p[-1:].repeat(missing, 0)]) for p in parts]
        results = [np.atleast_1d(result) for result in function(parts)]
        found.append([r[:-missing] if missing else r for r in results])
    return [np.concatenate(results) for results in zip(*found, strict=True)]


def run(model: keras.Model, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Applies a model to all examples, in batches of the size that it was built for."""
    return in_batches(inference(model), examples, batch_of(model, examples))


def batch_of(model: keras.Model, examples: Sequence[np.ndarray]) -> int:
    """Returns how many of these examples a model is given at once."""
    sizes = [given.shape[0] for given in model.inputs]
    return next(filter(None, sizes), min(_BATCH, len(examples[0])))
