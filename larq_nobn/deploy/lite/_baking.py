"""Rewrites a traced function with everything computed that no input decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf

from ..._keras import keras

# Lists of tensors, as loops have, and tables.
_NO_NUMBERS = (tf.variant, tf.resource)


class Baked(NamedTuple):
    """A graph of operations, with the names of its inputs and of its output tensors.

    Operations are called 'net/layer/...', after the innermost layer that they are of.
    The inputs are not among them.
    """

    graph_def: Any
    inputs: list[str]
    outputs: list[str]


def bake(frozen: Any, model: keras.Model) -> Baked:
    """Puts constants in place of what they are computed of, as quantized kernels are.

    Arguments:
        frozen: A concrete function whose variables are constants.
        model: The functional model that it is of, whose layers give the names.
    """
    moving = _moving(frozen.graph)
    values, names = _constants(frozen, moving), _Names(model)
    inputs = [tensor.op.name for tensor in frozen.inputs]
    graph_def = _baked(frozen.graph, moving, values, names, inputs)
    return Baked(
        graph_def, inputs, [names.of_tensor(x, moving) for x in frozen.outputs]
    )


def _moving(graph: Any) -> set[str]:
    """The operations whose outputs depend on the inputs, or are no constants."""
    found: set[str] = set()
    for op in graph.get_operations():  # each behind those that it depends on
        starts = op.type == "Placeholder" or op.op_def.is_stateful
        starts = starts or any(tensor.dtype in _NO_NUMBERS for tensor in op.outputs)
        if starts or any(tensor.op.name in found for tensor in op.inputs):
            found.add(op.name)
    return found


def _constants(frozen: Any, moving: set[str]) -> dict[str, np.ndarray]:
    """Computes what operations read that does not depend on the inputs."""
    operations = frozen.graph.get_operations()
    read = [x for op in operations if op.name in moving for x in op.inputs]
    fixed = {x.name: x for x in (*read, *frozen.outputs) if x.op.name not in moving}
    if not fixed:
        return {}
    found = frozen.prune([], list(fixed.values()))()
    return {name: value.numpy() for name, value in zip(fixed, found, strict=True)}


class _Names:
    """The new names of operations and tensors."""

    def __init__(self, model: keras.Model) -> None:
        self._layers = {
            layer.name
            for layer in model._flatten_layers(include_self=False)
            if not isinstance(layer, (lq.quantizers.Quantizer, keras.Model))
        }
        self._alone = model.name
        self._known: dict[str, str] = {}

    def of(self, op: Any) -> str:
        """Returns the new name of an operation; the short one leaves room in LCE."""
        if op.name not in self._known:
            parts = op.name.split("/")
            layer = next(filter(None, map(self._layer, reversed(parts[:-1]))), None)
            # A convolution is the last part of its own scope.
            layer = layer or self._layer(parts[-1]) or self._alone
            number = len(self._known)
            self._known[op.name] = f"net/{layer}/{parts[-1]}_{number}"
        return self._known[op.name]

    def _layer(self, scope: str) -> str | None:
        for name in (scope, re.sub(r"_\d+$", "", scope)):
            if name in self._layers:
                return name
        return None

    def of_tensor(self, tensor: Any, moving: set[str]) -> str:
        """Returns the new name of a tensor."""
        if tensor.op.name in moving:
            return f"{self.of(tensor.op)}:{tensor.value_index}"
        return f"{self.of(tensor.op)}/constant_{tensor.value_index}:0"


def _baked(
    graph: Any,
    moving: set[str],
    values: dict[str, np.ndarray],
    names: _Names,
    inputs: Sequence[str],
) -> Any:
    """Writes the operations again that depend on an input, and constants for them."""
    old = graph.as_graph_def()
    new = type(old)()
    new.CopyFrom(old)  # its functions and versions are kept
    del new.node[:]
    for name, value in values.items():
        tensor = graph.get_tensor_by_name(name)
        node = new.node.add(name=names.of_tensor(tensor, moving)[:-2], op="Const")
        node.attr["dtype"].type = tensor.dtype.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tensor.dtype))
    for node in old.node:
        if node.name not in moving or node.name in inputs:
            continue
        op = graph.get_operation_by_name(node.name)
        copy = new.node.add()
        copy.CopyFrom(node)
        copy.name = names.of(op)
        # A custom gradient would want tensors that are no longer there.
        copy.attr.pop("_gradient_op_type", None)
        del copy.input[:]
        copy.input.extend(
            f"{x.op.name}:0" if x.op.name in inputs else names.of_tensor(x, moving)
            for x in op.inputs
        )
    return new
