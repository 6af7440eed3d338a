"""Lets functions that promise the same function prove it before they return."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from .._keras import dtype_policy, keras
from ._copies import to_keras
from ._errors import LayerError, ModelError
from ._examples import SIZES, made_up, with_far
from ._graph import Graph
from ._walk import compare, record

# Beside the regular ones, of which one is of whole numbers.
FEW = 3
# Both forms compute in float32 and in Keras; weights are products of others.
_EQUAL = 1e-4


def check_same_function(
    given: keras.Model,
    made: keras.Model,
    what: str,
    values: Mapping[str, str] | None = None,
    skipped: tuple[type, ...] = (),
) -> None:
    """Checks that two models compute the same, segment by segment.

    On a few generated examples: regular ones, among them zeros, and random ones, among
    them whole numbers. Models of half precision are compared in float32.

    Arguments:
        given: A flat functional model.
        made: Another, with layers of the same names.
        what: What was done, for the message: "Folding batch norm".
        values: The names of layers that are others in `made`, and the first of the
            layers there in their place: those are not compared, only what is around.
        skipped: Layers that hand their input on for this comparison.

    Raises:
        ModelError: If they do not, naming the layer, or if the given model cannot be
            called on generated examples of any usual size.
    """
    reference, other = _in_float32(given), _in_float32(made)
    examples = _runnable(reference, what)
    read = partial(record, other, values=values, skipped=skipped)
    segments = compare(reference, read, examples, _EQUAL, skipped)
    if segments.finding:
        raise ModelError(
            f"{what} changed what model {given.name!r} computes: "
            f"{segments.finding}. Look there for a layer that depends on more than its "
            "configuration and its weights; with verify=False the model comes all the "
            "same."
        )


def _runnable(model: keras.Model, what: str) -> list[np.ndarray]:
    """Generated examples that a model can be called on, of some size that it takes.

    Raises:
        ModelError: If there are none.
    """
    fixed = next(filter(None, (given.shape[0] for given in model.inputs)), 1)
    is_open = any(None in given.shape[1:] for given in model.inputs)
    reason = ""
    for size in SIZES if is_open else SIZES[:1]:
        examples = made_up(model, FEW, size)
        try:
            recording = record(
                model, [np.repeat(array[:1], fixed, axis=0) for array in examples]
            )
        except LayerError as error:
            reason = reason or str(error)
            continue
        if all(output.size for output in recording.outputs):
            return with_far(model, examples)
    reason = reason or "Its outputs are empty."
    raise ModelError(
        f"{what} of model {model.name!r} cannot be compared, for the model cannot be "
        f"called on generated examples. {reason} With verify=False the model comes "
        "without a comparison."
    )


def _in_float32(model: keras.Model) -> keras.Model:
    halves = ("float16", "bfloat16")
    if not any(layer.compute_dtype in halves for layer in model.layers):
        return model
    with dtype_policy("float32"):
        return to_keras(Graph(model), float32=True, shared=True)
