"""Replaces variables, and whatever depends on no input, by constants of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ..._keras import keras
from .._errors import ConversionError
from ._form import LARGE, session
from ._inference import LayerCall
from ._operation_names import Names

# The types of tensor lists, which loops use, and of tables.
_NO_NUMBERS = (tf.variant, tf.resource)
_LARGE = "large_constants"  # a collection of a graph, by operation name


class Folded(NamedTuple):
    """A graph in which constants replace whatever depends on no input.

    Attributes:
        graph: The graph, whose large constants `constant` knows, too.
        inputs, outputs: Its tensors.
        names: The names of its operations, by those that they had before.
        functions: A definition of the functions that it calls, without operations.
    """

    graph: tf.Graph
    inputs: list[Any]
    outputs: list[Any]
    names: dict[str, str]
    functions: Any


def constant(tensor: Any) -> np.ndarray | None:
    """Returns the value of a constant of a graph; None for other tensors."""
    if tensor.op.type == "Const":
        return tf.make_ndarray(tensor.op.get_attr("value"))
    found = (x.get(tensor.op.name) for x in tensor.graph.get_collection(_LARGE))
    return next(found, None)


def fold_constants(
    concrete: Any, model: keras.Model, calls: Sequence[LayerCall]
) -> Folded:
    """Replaces the variables of a model's traced function, and what they determine.

    An example are quantized kernels. Operations get the names that `Names` has for
    them. TensorFlow's public function for variables also builds a function.
    """
    from tensorflow.python.framework import convert_to_constants

    data = convert_to_constants._FunctionConverterDataInEager(
        func=concrete, lower_control_flow=False, aggressive_inlining=False
    )
    whole, indices = convert_to_constants._replace_variables_by_constants(data)
    gone = {id(concrete.graph.internal_captures[index]) for index in indices}
    there = [pair for pair in concrete.graph.captures if id(pair[1]) not in gone]
    for tensor, inner in there:
        if tensor.dtype in _NO_NUMBERS:
            raise ConversionError(
                f"Model {model.name!r} reads a table, or another state that is no "
                f"variable, in operation {inner.op.name!r}, which no file can contain. "
                "Look the table up outside, and pass its numbers to the model."
            )
    starts = concrete.inputs[: -len(concrete.captured_inputs) or None]
    inputs = [tensor.op.name for tensor in starts]
    outputs = [tensor.name for tensor in concrete.outputs]
    graph = _pruned(whole, inputs, outputs)
    # Tensors outside of the function are operations without inputs here.
    numbers = {inner.op.name: tensor.numpy() for tensor, inner in there}
    numbers |= _sizes(graph)
    ends = [graph.get_tensor_by_name(name) for name in outputs]
    moving = _moving(graph, numbers)
    read = (x for op in moving.values() for x in op.inputs)
    fixed = {x.name: x for x in (*read, *ends) if x.op.name not in moving}
    known = {op.name: op.outputs[0] for op in graph.get_operations() if op.outputs}
    feed = {known[name]: value for name, value in numbers.items() if name in known}
    values = session(graph).run(list(fixed), feed)
    names = Names(model, inputs, calls)

    def name_of(tensor: Any) -> str:
        name, place = names.of(tensor.op), tensor.value_index
        own = tensor.op.name in moving
        return f"{name}:{place}" if own else f"{name}/constant_{place}:0"

    new, large = type(whole)(versions=whole.versions), {}
    new.library.CopyFrom(whole.library)
    for tensor, value in zip(fixed.values(), values, strict=True):
        name = name_of(tensor)[:-2]
        _add_constant(new, name, tensor, value)
        if np.size(value) >= LARGE:
            large[name] = value
    for op in moving.values():
        _add_operation(new, names.of(op), op, map(name_of, op.inputs))
    with tf.Graph().as_default() as folded:
        tf.graph_util.import_graph_def(new, name="")
        folded.add_to_collection(_LARGE, large)
    del new.node[:]
    return Folded(
        folded,
        [folded.get_tensor_by_name(f"{name}:0") for name in inputs],
        [folded.get_tensor_by_name(name_of(end)) for end in ends],
        {name: names.of(op) for name, op in moving.items()},
        new,
    )


def _pruned(whole: Any, inputs: Sequence[str], outputs: Sequence[str]) -> tf.Graph:
    """Returns the part of a graph that its inputs and outputs need."""
    for node in whole.node:  # control inputs carry no numbers
        node.input[:] = [name for name in node.input if not name.startswith("^")]
    wanted = [*inputs, *(name.partition(":")[0] for name in outputs)]
    needed = tf.compat.v1.graph_util.extract_sub_graph(whole, wanted)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(needed, name="")
    return graph


def _sizes(graph: tf.Graph) -> dict[str, np.ndarray]:
    """Returns the results of Shape operations that are known without an example."""
    asked = (op for op in graph.get_operations() if op.type == "Shape")
    return {
        op.name: np.array(op.inputs[0].shape, op.outputs[0].dtype.as_numpy_dtype)
        for op in asked
        if op.inputs[0].shape.is_fully_defined()
    }


def _moving(graph: tf.Graph, numbers: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the operations that depend on an input or a state, by name."""
    moving: dict[str, Any] = {}
    for op in graph.get_operations():  # each after those that it depends on
        starts = op.type == "Placeholder" and op.name not in numbers
        starts = starts or op.op_def.is_stateful
        starts = starts or any(x.dtype in _NO_NUMBERS for x in op.outputs)
        moved = any(tensor.op.name in moving for tensor in op.inputs)
        if starts or (moved and op.name not in numbers):
            moving[op.name] = op
    return moving


def _add_constant(graph: Any, name: str, tensor: Any, value: np.ndarray) -> None:
    """Adds a constant for a tensor; a large one is a placeholder, fed in each run."""
    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = tensor.dtype.as_datatype_enum
    if np.size(value) < LARGE:
        content = tf.make_tensor_proto(value, tensor.dtype)
        node.attr["value"].tensor.CopyFrom(content)
    else:
        node.op = "Placeholder"
        node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())


def _add_operation(graph: Any, name: str, op: Any, inputs: Iterable[str]) -> None:
    """Adds a copy of an operation with another name and other inputs."""
    node = graph.node.add()
    node.CopyFrom(op.node_def)
    node.name = name
    # These refer to a custom gradient, or to an operation, that is not in the graph.
    for attribute in ("_gradient_op_type", "_class"):
        node.attr.pop(attribute, None)
    del node.input[:]
    node.input.extend(inputs)
