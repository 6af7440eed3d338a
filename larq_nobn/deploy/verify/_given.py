"""Compares the trace of a model with the model itself, as `predict` calls it.

Keras is not patched here. One batch of a few examples is compared from end to end. If
it differs, perhaps by a sign that rounding decides, it is compared sign by sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..._keras import keras
from ..._larq import unmeasured
from ..._math import unfused
from ...graph._examples import batch_of, tensors_of
from .._errors import ConversionError
from ..lite._converter import calling, in_batches
from ..trace._form import as_one_graph
from ..trace._inference import LayerCall, as_built, forgotten_gradients, noting_calls
from ..trace._operation_names import Names, layer_name, layer_of
from ..trace._signs import TracedSign, signs_of
from ..trace._trace import Trace
from ._same import matched
from ._segments import Examples, Recording, Segments, by_example, compare

# The batch size for models that take any number of examples.
_ROWS = 4
# Rounding: Keras computes several examples at once, and quantizes in each call.
GIVEN_EQUAL = 1e-4


def compare_given(model: keras.Model, trace: Trace, examples: Examples) -> Segments:
    """Compares a model as Keras runs it with its trace, which is the reference.

    Raises:
        ConversionError: If the model cannot be called on the examples, or if an output
            example depends on the others.
    """
    size = batch_of(model, _ROWS)
    count = len(examples[0])
    rows = {(2 * i + 1) * count // (2 * size) for i in range(size)}
    few = [array[sorted(rows)] for array in examples]
    known = _predicted(model, few, size)
    _check_independent(model, trace, few, size, known)

    def read(part: Examples) -> Recording:
        same = all(map(np.array_equal, part, few))
        return Recording(known if same else _predicted(model, part, size), [], {})

    segments = compare(trace.form, trace.io, (), read, few, GIVEN_EQUAL)
    if segments.finding:
        own, shown = _at_signs(model, trace, size)
        segments = compare(trace.form, trace.io, own, shown, few, GIVEN_EQUAL)
    return segments


def _predicted(model: keras.Model, examples: Examples, size: int) -> list[np.ndarray]:
    """Returns the outputs of `predict`, for `size` examples at once."""
    return in_batches(partial(_run, model, size), examples, size)


def _run(model: keras.Model, size: int, examples: Examples) -> list[np.ndarray]:
    with calling(model):
        made = [np.asarray(x) for x in _step(model, tensors_of(model, examples))]
    if len(made) != len(model.outputs):
        raise ConversionError(
            f"Model {model.name!r} gives {len(made)} outputs in predict, but has "
            f"{len(model.outputs)}. A file computes only its call: move what its "
            "predict_step does into call."
        )
    for name, output in zip(model.output_names, made, strict=True):
        rows = len(output) if output.ndim else 0
        if rows != size:
            raise ConversionError(
                f"Output {name!r} of model {model.name!r} has {rows} rows for {size} "
                "examples. Give it one for each, along the first axis."
            )
    return made


def _step(model: keras.Model, inputs: Sequence[Any]) -> list[Any]:
    packed = tf.nest.pack_sequence_as(model._nested_inputs, list(inputs))
    with unmeasured(model):
        return tf.nest.flatten(model.predict_step((packed,)))


def _check_independent(
    model: keras.Model,
    trace: Trace,
    few: Examples,
    size: int,
    made: Sequence[np.ndarray],
) -> None:
    """Rejects a model whose output for an example depends on the others.

    The second example of a batch is run among others, and among copies of itself. It
    keeps its place and the batch size, so its rounding stays the same.
    """
    if size == 1:
        return
    if len(few[0]) < size:
        few = [np.resize(np.stack([x, np.flip(x)]), (size, *x.shape[1:])) for x in few]
        made = _predicted(model, few, size)
    copies = [np.repeat(x[1:2], size, axis=0) for x in few]

    def differ(first: np.ndarray, second: np.ndarray) -> bool:
        return not np.array_equal(first[1], second[1], equal_nan=True)

    if not any(map(differ, made, _predicted(model, copies, size))):
        return
    specs = [tf.TensorSpec((size, *x.shape[1:]), x.dtype, x.name) for x in trace.io[0]]
    whole = Trace(trace.model, trace.io._replace(inputs=specs))
    ranked = [x for op in whole.operations for x in op.outputs[:1] if x.shape.rank]
    tensors = [x for x in ranked if x.dtype.is_numpy_compatible and x.shape[0] == size]
    starts = (dict(zip(whole.inputs, part, strict=True)) for part in (few, copies))
    pairs = zip(*(whole.form.run(start, tensors) for start in starts), strict=True)
    places = (i for i, pair in enumerate(pairs) if differ(*pair))
    if (first := next(places, None)) is not None:
        raise ConversionError(
            f"In model {model.name!r}, the output for an example depends on the others "
            f"of its batch, from layer {layer_of(tensors[first].op)!r} on, while a "
            "file answers for each example alone. Compute from each example what that "
            "layer computes from the batch, or make it a weight."
        )


def _at_signs(
    model: keras.Model, trace: Trace, size: int
) -> tuple[list[TracedSign], Callable[[Examples], Recording]]:
    """Returns the signs of a trace that Keras has, too, and how Keras records them."""
    found, calls = list[TracedSign](), list[LayerCall]()

    def shown(inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        with noting_calls(calls):
            made = _step(model, inputs)
        names = Names(model, (), calls)
        # Signs of kernels have no examples, but may have as many rows.
        reached = dict.fromkeys(x.op for x in inputs)
        for op in tf.compat.v1.get_default_graph().get_operations():
            if any(x.op in reached for x in op.inputs):
                reached[op] = None
        found[:] = signs_of(reached, size, lambda op: layer_name(names.of(op)))
        return [*made, *(sign.value for sign in found)]

    specs = [tf.TensorSpec((size, *x.shape[1:]), x.dtype) for x in trace.io.inputs]
    with forgotten_gradients(), unfused():
        function = as_built(shown).get_concrete_function(*specs)
    own, others = matched(trace.signs(), found)
    places = [next(i for i, x in enumerate(found) if x is sign) for sign in others]

    def run(part: Examples) -> list[np.ndarray]:
        return [x.numpy() for x in function(*tensors_of(model, part))]

    def read(part: Examples) -> Recording:
        with as_one_graph():
            made = in_batches(run, part, size)
        outputs, inner = made[: len(model.outputs)], made[len(model.outputs) :]
        values = [by_example(inner[place], len(part[0])) for place in places]
        return Recording(outputs, values, {})

    return own, read
