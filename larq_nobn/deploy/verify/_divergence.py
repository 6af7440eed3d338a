"""Finds the layer at which a converted file diverges from its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ...graph import Call, Graph
from .._errors import ConversionError
from ..lite import Runner, inference, io_spec, run, to_flatbuffer
from ._agreement import differences

# More would tell no more, and LCE's interpreter on a PC is slow.
_EXAMPLES = 4


def first_divergence(
    prepared: keras.Model, examples: Sequence[np.ndarray], tolerance: float
) -> str:
    """Says which layer is the first that computes something else in a file.

    The model is cut off after some layer, and what the rest would need is compared
    between Keras and a file of the part alone; bisection finds a layer without which
    the part agrees and with which it does not. That takes as many conversions as the
    number of layers has binary digits.

    Arguments:
        prepared: The model, of which a file differs.
        examples: One array per input, of examples that differ.
        tolerance: Allowed difference, relative to the largest number of a tensor.

    Returns:
        A sentence, also if every part agrees by itself.
    """
    graph = Graph(prepared)
    few = [array[:_EXAMPLES] for array in examples]
    try:
        found, difference = _bisect(prepared, graph, few, tolerance)
    except ConversionError as error:  # of a part, although the whole had none
        return f"Layer not found. {error}"
    if found is None:
        return "Converted once more, it computes the same as its model."
    return (
        f"The first layer to compute something else is {found.described}, with a "
        f"relative difference of {difference:.2g}."
    )


def _bisect(
    prepared: keras.Model,
    graph: Graph,
    examples: Sequence[np.ndarray],
    tolerance: float,
) -> tuple[Call | None, float]:
    agree, differ = 0, len(graph.calls)
    difference = _difference(prepared, graph, differ, examples)
    if difference <= tolerance:
        return None, difference
    while differ - agree > 1:
        middle = (agree + differ) // 2
        found = _difference(prepared, graph, middle, examples)
        if found <= tolerance:
            agree = middle
        else:  # a NaN too
            differ, difference = middle, found
    return graph.calls[differ - 1], difference


def _difference(
    prepared: keras.Model, graph: Graph, count: int, examples: Sequence[np.ndarray]
) -> float:
    """How far the first `count` calls differ from a file of them, relatively."""
    part = keras.Model(prepared.inputs, _ends(graph, count), name="net")
    file = Runner(to_flatbuffer(inference(part), part.variables, io_spec(part)))
    pairs = zip(run(part, examples), file.outputs(examples), strict=True)
    return float(np.max([differences(*pair)[1] for pair in pairs]))


def _ends(graph: Graph, count: int) -> list[Any]:
    """What the first `count` calls make for the others, or for the user."""
    made = [x for call in graph.calls[:count] for x in tf.nest.flatten(call.outputs)]
    needed = {id(x) for call in graph.calls[count:] for x in call.node.keras_inputs}
    return [x for x in made if graph.is_output(x) or id(x) in needed]
