"""Proves that a rewritten model computes the same, before it is returned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from ..._keras import dtype_policy, keras
from ...graph._copies import to_keras
from ...graph._errors import LayerError, ModelError
from ...graph._examples import SIZES, batch_of, called, made_up, with_far
from ...graph._graph import Graph
from ...graph._models import call_by_call
from .._errors import ConversionError
from ..lite._converter import IoSpec
from ..trace._signs import TracedSign
from ..trace._trace import Trace
from ._segments import Segments, compare, labels_of, recorder

# The number of random examples beside the regular ones; one has whole numbers.
FEW = 3
# Both models compute in float32 in Keras, and one multiplies weights in advance.
_EQUAL = 1e-4


def check_same_function(given: keras.Model, made: keras.Model, what: str) -> None:
    """Checks that two models compute the same, from sign to sign.

    Signs of the flat model `given` and of `made` are in layers of the same names. The
    examples are generated: regular ones, such as zeros, and a few random ones, such as
    whole numbers. Models of half precision are compared in float32. `what` was done,
    such as "Folding batch norm".

    Raises:
        ModelError: If they differ, with the layer, or if the given model cannot be
            called on generated examples of any usual size.
    """
    reference, other = _in_float32(given), _in_float32(made)
    examples = _runnable(reference, what)
    try:
        segments = compare_models(reference, other, examples, _EQUAL)
    except ConversionError as error:
        raise _not_compared(given, what, str(error)) from error
    if segments.finding:
        raise ModelError(
            f"{what} changed what model {given.name!r} computes: "
            f"{segments.finding}. Look there for a layer that depends on more than its "
            "input, configuration and weights. With verify=False the model is returned "
            "without this comparison."
        )


def compare_models(
    reference: keras.Model,
    other: keras.Model,
    examples: Sequence[np.ndarray],
    tolerance: float,
) -> Segments:
    """Compares two float32 models from sign to sign, as `check_same_function` does.

    Outputs may differ by `tolerance`, relative to the spread of their channel.
    """
    inputs = [
        tf.TensorSpec((batch_of(reference), *array.shape[1:]), x.dtype, name)
        for x, array, name in zip(
            reference.inputs, examples, reference.input_names, strict=True
        )
    ]
    io = IoSpec(inputs, reference.output_names)
    first, second = (Trace(x, io, partial(call_by_call, x)) for x in (reference, other))
    signs, others = matched(first.signs(), second.signs())
    read = recorder(second.form, others)
    return compare(first.form, io, signs, read, examples, tolerance)


def matched(
    signs: Sequence[TracedSign], others: Sequence[TracedSign]
) -> tuple[list[TracedSign], list[TracedSign]]:
    """Returns the signs of layers that have equally many of them in both forms."""
    sides = signs, others
    mine, theirs = (dict(zip(labels_of(x), x, strict=True)) for x in sides)
    counts = [Counter(sign.layer for sign in x) for x in sides]
    odd = (counts[0] - counts[1]) + (counts[1] - counts[0])
    labels = [
        label
        for label, sign in mine.items()
        if sign.layer not in odd
        and sign.value.shape[1:] == theirs[label].value.shape[1:]
    ]
    return [mine[label] for label in labels], [theirs[label] for label in labels]


def _runnable(model: keras.Model, what: str) -> list[np.ndarray]:
    """Returns generated examples of a size on which the model can be called."""
    is_open = any(None in tensor.shape[1:] for tensor in model.inputs)
    reason, count = "", batch_of(model)
    for size in SIZES if is_open else SIZES[:1]:
        examples = made_up(model, FEW, size)
        try:
            outputs = called(model, [array[:1].repeat(count, 0) for array in examples])
        except LayerError as error:
            reason = reason or str(error)
            continue
        if all(output.size for output in outputs):
            return with_far(model, examples)
    raise _not_compared(model, what, reason or "Its outputs are empty.")


def _not_compared(model: keras.Model, what: str, reason: str) -> ModelError:
    return ModelError(
        f"{what} of model {model.name!r} cannot be compared on generated examples. "
        f"{reason} With verify=False the model is returned anyway."
    )


def _in_float32(model: keras.Model) -> keras.Model:
    halves = ("float16", "bfloat16")
    if not any(layer.compute_dtype in halves for layer in model.layers):
        return model
    with dtype_policy("float32"):
        return to_keras(Graph(model), float32=True, shared=True)
