"""Computes a program with TensorFlow, in the form that LCE's converter expects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from ..trace._form import LARGE, Form, Number
from ._kinds import Constant, Kernel, Node, Other, Value
from ._program import Program


def outputs_of(
    program: Program, inputs: Sequence[Any], more: Sequence[Value] = ()
) -> list[Any]:
    """Returns the tensors of a program's outputs, then of `more`, for input tensors."""
    tensors = _tensors_of(program, inputs)
    return [tensors[value] for value in (*program.outputs, *more)]


def _tensors_of(program: Program, inputs: Sequence[Any]) -> dict[Value, Any]:
    tensors = dict(zip(program.inputs, inputs, strict=True))
    for node in program.nodes:
        scope, _, name = node.name.rpartition("/")
        scoped = scope and not isinstance(node, Other)
        with tf.name_scope(f"{scope}/" if scoped else ""):
            made = node.emit(name, *(tensors[value] for value in node.reads))
        made = made if isinstance(made, list) else [made]
        tensors.update(zip(node.makes, made, strict=False))
    return tensors


def with_variables(program: Program) -> Program:
    """Returns the program with its large arrays as variables, for writing a file.

    TensorFlow would copy constants a dozen times while it writes.
    """
    nodes = []
    for node in program.nodes:
        large = ((name, x) for name, x in _reals(node) if x.size >= LARGE)
        own = {name: tf.Variable(x, trainable=False) for name, x in large}
        nodes.append(replace(node, **own))
    return Program(program.inputs, nodes, program.outputs)


def form_of(
    program: Program,
    count: int | None = None,
    value_of: Callable[[Any], Value] = lambda value: value,
) -> Form:
    """Returns a form that runs a program, and shows the values of tensors.

    Only the first `count` outputs of the program are those of the network.
    """
    numbers = dict[Any, Number]()
    with tf.Graph().as_default():
        starts = [tf.compat.v1.placeholder(x.dtype, x.shape) for x in program.inputs]
        nodes = [_with_numbers(node, numbers) for node in program.nodes]
        whole = Program(program.inputs, nodes, program.outputs)
        tensors = _tensors_of(whole, starts)
    ends = [tensors[value] for value in program.outputs[:count]]
    return Form(starts, ends, lambda x: tensors[value_of(x)], numbers)


# Rounding noise of sums that count bits: 4 float32 epsilons, while others have 32.
_OF_COUNTS = 1 / 8


def _reals(node: Node) -> Iterator[tuple[str, np.ndarray]]:
    """Yields a node's fields of real numbers, by name and in its precision."""
    for name in node.reals:
        array = np.asarray(getattr(node, name))
        if array.dtype.kind == "f":
            kind = array.dtype if isinstance(node, Constant) else np.float32
            yield name, array.astype(kind, copy=False)


def _with_numbers(node: Node, numbers: dict[Any, Number]) -> Node:
    """Returns a node whose real numbers are tensors, and adds these to `numbers`.

    LCE subtracts the number of differing bits from that of all weights, both scaled, so
    a binary convolution rounds in proportion to its number of weights.
    """
    own = {}
    for name, value in _reals(node):
        reach: np.ndarray | None = value
        if isinstance(node, Kernel) and node.binary and name != "scale":
            most = np.prod(node.weights.shape[:-1]) * node.scale
            reach = _OF_COUNTS * most if name == "bias" else None
        if value.size < LARGE:
            own[name] = tf.constant(value)
        else:
            own[name] = tf.compat.v1.placeholder(value.dtype, value.shape)
        numbers[own[name]] = value, reach
    return replace(node, **own)
