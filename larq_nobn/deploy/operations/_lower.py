"""The trace of a model as a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ...layers._fake_quantization import representable_range
from ..trace._constants import constant
from ..trace._signs import NOTHING, always_selected, is_larqs_sign
from ..trace._trace import Trace
from ._binary import kernel_is_binary, spell_signs
from ._estimators import cancel_terms
from ._program import (
    Node,
    Program,
    Value,
    affine,
    binary_kernels,
    everywhere,
    is_scale,
    kernel,
    key_of,
    per_channel,
    sign,
)

_SUMS = {"Add": 1.0, "AddV2": 1.0, "BiasAdd": 1.0, "Sub": -1.0}
_KERNELS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
_FLOAT = tf.float32


@dataclass(frozen=True)
class Lowered:
    """The operations of a trace as a program.

    Attributes:
        program: The program.
        values: What the tensors of the trace are, by their names.
        nodes: Those that were read, with values that the program no longer has.
        repeated: The names of binary kernels that do what an earlier one does.
        sums: The names of sums whose terms cancel.
    """

    program: Program
    values: Mapping[str, Value]
    nodes: Sequence[Node]
    repeated: list[str]
    sums: list[str]

    def value(self, tensor: Any) -> Value:
        """What a tensor of the trace is."""
        return self.values[tensor.name]


def lower(trace: Trace) -> Lowered:
    """Reads the operations of a trace.

    An affine operation is y = k x + b, with k and b (C,) each, in float64. A kernel
    computes scale * (kernel * x) + bias; one of ±c that reads signs is ±1. A sign is
    +1 where x + shift >= 0, else -1. A range rounds to one of 256 numbers from low to
    high. What is none of these, nor a sum of two maps, is a TensorFlow operation as it
    is.
    """
    lowering = _Lowering([tensor.op for tensor in trace.inputs])
    for op in trace.operations:
        lowering.read(op)
    values = lowering.values
    inputs = [values[tensor.name] for tensor in trace.inputs]
    outputs = [values[tensor.name] for tensor in trace.outputs]
    program = Program(inputs, lowering.nodes, outputs)
    program = everywhere(program, (spell_prelu,))
    program, sums = cancel_terms(program)
    program = everywhere(spell_signs(program), (kernel_is_binary,))
    binary = binary_kernels(program)
    repeated = [name for name, first in lowering.repeated if first in binary]
    return Lowered(program, values, lowering.nodes, repeated, sums)


def spell_prelu(program: Program, node: Node) -> Program | None:
    """Writes max(x, 0) - a max(-x, 0) as one operation."""
    if node.kind != "sum":
        return None
    for positive, rest in (node.reads, node.reads[::-1]):
        first, scaled = program.maker(positive), program.maker(rest)
        slope = 1.0
        if scaled is not None and is_scale(scaled):
            slope, scaled = scaled["k"], program.maker(scaled.x)
        if first is None or scaled is None or {first.type, scaled.type} != {"Relu"}:
            continue
        turned = program.maker(scaled.x)
        if turned is None or turned.kind != "affine" or turned.x is not first.x:
            continue
        if np.all(turned["k"] == -1) and not np.any(turned["b"]):
            arguments = {"slope": np.broadcast_to(-slope, turned["k"].shape)}
            spelled = Node(node.name, "prelu", (first.x,), node.makes, arguments)
            return program.with_nodes([node], [spelled])
    return None


class _Lowering:
    """Reads operations one after the other.

    Attributes:
        values: By the names of tensors; equal ones are the same.
        nodes: What makes them.
        repeated: The names of kernels that do what an earlier one does, and of that.
    """

    def __init__(self, inputs: Sequence[Any]) -> None:
        self._inputs = inputs
        self.values: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.repeated: list[tuple[str, str]] = []
        self._makers: dict[Value, Node] = {}
        self._firsts: dict[Any, Node] = {}

    def read(self, op: Any) -> None:
        names = [tensor.name for tensor in op.outputs]
        reads = tuple(self.values[tensor.name] for tensor in op.inputs)
        place = always_selected(op)
        given = op.type in NOTHING or place is not None
        makes = reads if given else tuple(map(_value_of, op.outputs))
        if place is not None:
            makes = reads[place : place + 1]
        elif makes and not given and op not in self._inputs:
            node = self._node(op, reads, makes)
            changes = op.op_def.is_stateful
            first = node if changes else self._firsts.setdefault(key_of(node), node)
            if first is node:
                self.nodes.append(node)
                self._makers.update((value, node) for value in node.makes)
            elif node.kind == "kernel":
                self.repeated.append((node.name, first.name))
            makes = first.makes
        self.values.update(zip(names, makes, strict=False))

    def _node(
        self, op: Any, reads: tuple[Value, ...], makes: tuple[Value, ...]
    ) -> Node:
        value = constant(op.outputs[0])
        if value is not None:
            return Node(op.name, "constant", (), makes, {"value": value})
        if op.type == "FakeQuantWithMinMaxVars":
            ends = [self._constant(value) for value in reads[1:]]
            if not any(end is None for end in ends):
                low, high = map(float, representable_range(*ends))
                own = {"low": low, "high": high}
                return Node(op.name, "range", reads[:1], makes, own)
        known, y = None, makes[0]
        if y.dtype is _FLOAT and y.channels is not None:
            known = self._known(op, reads, y)
        return known or Node(op.name, "other", reads, makes, {"op": op})

    def _known(self, op: Any, reads: tuple[Value, ...], y: Value) -> Node | None:
        """The node of an operation of which rules know; None of others."""
        if op.type in _SUMS:
            return self._sum(op, reads, y, _SUMS[op.type])
        if op.type == "Mul":
            numbers = self._numbers(reads, y)
            if numbers is not None:
                place, k = numbers
                return affine(op.name, reads[1 - place], k, y)
        if op.type == "RealDiv":
            divisor = self._numbers(reads, y)
            if divisor is not None and divisor[0] == 1 and np.all(divisor[1]):
                return affine(op.name, reads[0], 1 / divisor[1].astype(np.float64), y)
        if op.type == "Neg":
            return affine(op.name, reads[0], -1.0, y)
        if op.type == "FusedBatchNormV3" and not op.get_attr("is_training"):
            constants = [self._constant(value) for value in reads[1:]]
            last = op.get_attr("data_format") == b"NHWC"
            if last and not any(value is None for value in constants):
                gamma, beta, mean, variance = (
                    np.asarray(x, np.float64) for x in constants
                )
                k = gamma / np.sqrt(variance + op.get_attr("epsilon"))
                return affine(op.name, reads[0], k, y, beta - mean * k)
        if is_larqs_sign(op):
            x = self.values[op.inputs[0].op.inputs[0].op.inputs[0].name]
            return sign(op.name, x, y)
        if op.type == "SelectV2":
            return self._compared(op, y)
        if op.type == "ConcatV2":
            axis, last = self._constant(reads[-1]), len(y.shape or ()) - 1
            known = all(value.channels is not None for value in reads[:-1])
            if known and axis is not None and int(axis) in (-1, last):
                return Node(op.name, "joined", reads[:-1], (y,))
        if op.type in ("Pad", "PadV2"):
            sides, *value = map(self._constant, reads[1:])
            number = value[0] if value else np.zeros(1)
            if sides is None or number is None:
                return None
            pairs = [tuple(side) for side in sides.tolist()]
            own = {"sides": pairs, "value": float(number.item())}
            return Node(op.name, "pad", reads[:1], (y,), own)
        if op.type in _KERNELS:
            return self._kernel(op, reads, y)
        return None

    def _compared(self, op: Any, y: Value) -> Node | None:
        """The sign that is +1 from a threshold on; None of other comparisons."""
        condition, *ends = op.inputs
        if condition.op.type != "GreaterEqual":
            return None
        x, *numbers = (self.values[t.name] for t in (*condition.op.inputs, *ends))
        threshold, *both = (self._constant(value) for value in numbers)
        known = [float(c) for c in both if c is not None and c.size == 1]
        fits = x.dtype is _FLOAT and x.shape == y.shape and known == [1, -1]
        each = None if threshold is None else per_channel(threshold, y.channels)
        return None if each is None or not fits else sign(op.name, x, y, -each)

    def _sum(
        self, op: Any, reads: tuple[Value, ...], y: Value, factor: float
    ) -> Node | None:
        numbers = self._numbers(reads, y)
        if numbers is not None:
            place, b = numbers
            if place == 0:
                return affine(op.name, reads[1], factor, y, b)
            return affine(op.name, reads[0], 1.0, y, factor * b)
        alike = all(value.shape == y.shape for value in reads)
        return Node(op.name, "sum", reads, (y,)) if factor == 1 and alike else None

    def _kernel(self, op: Any, reads: tuple[Value, ...], y: Value) -> Node | None:
        weights, options = self._constant(reads[1]), dict[str, Any]()
        if weights is None:
            return None
        if op.type == "MatMul":
            turned = op.get_attr("transpose_a") or op.get_attr("transpose_b")
            if turned or reads[0].shape is None or len(reads[0].shape) != 2:
                return None
        else:
            options = {
                "strides": list(op.get_attr("strides")),
                "padding": op.get_attr("padding").decode(),
                "dilations": list(op.get_attr("dilations")),
            }
            explicit = options["padding"] == "EXPLICIT"
            if explicit or op.get_attr("data_format") != b"NHWC":
                return None
        if op.type == "Conv2D":
            inputs = weights.shape[-2]
            options["groups"] = (reads[0].channels or inputs) // inputs
        return kernel(op.name, reads[0], y, weights, of=op.type, **options)

    def _constant(self, value: Value) -> np.ndarray | None:
        node = self._makers.get(value)
        return node["value"] if node is not None and node.kind == "constant" else None

    def _numbers(
        self, reads: tuple[Value, ...], y: Value
    ) -> tuple[int, np.ndarray] | None:
        """Which of two values is a number per channel of the other, and it."""
        for place, value in enumerate(reads):
            numbers = self._constant(value)
            if numbers is None or reads[1 - place].shape != y.shape:
                continue
            each = per_channel(numbers, y.channels)
            if each is not None:
                return place, np.broadcast_to(each, y.channels or 1)
        return None


def _value_of(tensor: Any) -> Value:
    rank = tensor.shape.rank
    return Value(None if rank is None else tensor.shape.as_list(), tensor.dtype)
