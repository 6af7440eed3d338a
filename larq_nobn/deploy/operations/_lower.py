"""Lowers the trace of a model to a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ...layers._fake_quantization import representable_range
from ..trace._constants import constant
from ..trace._signs import NOTHING, always_selected, is_larqs_sign
from ..trace._trace import Trace
from ._binary import kernel_is_binary, spell_signs
from ._kinds import (
    Affine,
    Constant,
    Joined,
    Kernel,
    Node,
    Other,
    Pad,
    PReLU,
    Range,
    Sign,
    Sum,
    Value,
    per_channel,
)
from ._program import Edit, Program, binary_kernels, everywhere, key_of
from ._rules import scale_after_mean, scale_after_sum

_FLOAT = tf.float32
# The largest number of operations that a sum whose terms cancel is made of.
_MOST_TERMS = 12


@dataclass(frozen=True)
class Lowered:
    """The operations of a trace as a program.

    Attributes:
        program: The program.
        values: The value of each tensor of the trace, by the tensor's name.
        nodes: All nodes that were read, also those that the program no longer has.
        repeated: The names of binary kernels that equal an earlier one, each once per
            group.
        sums: The names of sums whose terms cancel.
    """

    program: Program
    values: Mapping[str, Value]
    nodes: Sequence[Node]
    repeated: list[str]
    sums: list[str]

    def value(self, tensor: Any) -> Value:
        """Returns the value of a tensor of the trace."""
        return self.values[tensor.name]


def lower(
    trace: Trace, key: Callable[[Node], Any] = key_of, int8: bool = False
) -> Lowered:
    """Reads the operations of a trace as a program.

    Operations that `_KNOWN` does not cover remain TensorFlow operations. Kernels of ±c
    that read signs become ±1. Nodes with an equal `key` become one. Unless the maps are
    rounded to int8, means of sums of signs are those of whole numbers.
    """
    lowering = _Lowering([tensor.op for tensor in trace.inputs], key)
    for op in trace.operations:
        lowering.read(op)
    values = lowering.values
    inputs = [values[tensor.name] for tensor in trace.inputs]
    outputs = [values[tensor.name] for tensor in trace.outputs]
    program, sums = with_signs(Program(inputs, lowering.nodes, outputs))
    if not int8:
        program = everywhere(program, (scale_after_mean, scale_after_sum))
    groups = {node.name: node.groups for node in binary_kernels(program)}
    pairs = lowering.repeated
    repeated = [name for name, first in pairs for _ in range(groups.get(first, 0))]
    return Lowered(program, values, lowering.nodes, repeated, sums)


def with_signs(program: Program) -> tuple[Program, list[str]]:
    """Writes operations in the kinds that rules know; returns the sums that cancel."""
    program, sums = cancel_terms(everywhere(program, (spell_prelu,)))
    return everywhere(spell_signs(program), (kernel_is_binary,)), sums


def spell_prelu(program: Program, node: Sum) -> Edit:
    """Writes max(x, 0) - a max(-x, 0) as one operation."""
    for positive, rest in (node.reads, node.reads[::-1]):
        first, scaled = program.maker(positive), program.maker(rest)
        slope = 1.0
        if isinstance(scaled, Affine) and scaled.is_scale:
            slope, scaled = scaled.k, program.maker(scaled.x)
        if first is None or scaled is None or {first.type, scaled.type} != {"Relu"}:
            continue
        turned = program.maker(scaled.x, Affine)
        if turned is None or turned.x is not first.x or not turned.is_scale:
            continue
        if np.all(turned.k == -1):
            spelled = PReLU(node.name, first.reads, node.makes, -slope)
            return program.with_nodes([node], [spelled])
    return "it is no sum of max(x, 0) and a multiple of max(-x, 0)"


# --- straight-through estimators that are written as a sum, whose terms cancel:
# x + stop_gradient(q(x) - x) equals q(x), and its gradient is that of x. Instead of x,
# clip(x), tanh(x) and others are common. The terms come in any order, with any factors.


def cancel_terms(program: Program) -> tuple[Program, list[str]]:
    """Removes from each sum the terms that cancel; returns the names of these sums."""
    names = []
    for node in program.nodes:
        if isinstance(node, Affine) or _summands(node) is None:
            continue
        edited = _without_terms(program, node) if node in program.nodes else None
        if edited is not None:
            program = edited
            names.append(node.name)
    return program, names


def _without_terms(program: Program, node: Node) -> Program | None:
    """Expands a sum, its last operation first, until some of its terms cancel.

    A value that several operations read is expanded after all of these, so that its
    factors are added up first.
    """
    places = {other: place for place, other in enumerate(program.nodes)}
    terms, shift = {node.y: np.ones(1)}, np.zeros(1)
    for _ in range(_MOST_TERMS):
        makers = (program.maker(value) for value in terms)
        known = [m for m in makers if m is not None and _summands(m) is not None]
        if not known:
            return None
        last = max(known, key=places.__getitem__)
        k, (factors, b) = terms.pop(last.y), _summands(last) or ((), 0.0)
        shift = shift + k * b
        for value, factor in zip(last.reads, factors, strict=True):
            terms[value] = terms.get(value, 0.0) + k * factor
        left = {value: k for value, k in terms.items() if np.any(k)}
        if len(left) < len(terms):
            return _summed(program, node, left, shift) if left else None
    return None


def _summands(node: Node) -> tuple[tuple[np.ndarray, ...], np.ndarray] | None:
    """Returns the factors of a node's summands, and its shift; None for other nodes."""
    if isinstance(node, Affine):
        return (node.k,), node.b
    one, none = np.ones(1), np.zeros(1)
    if isinstance(node, Sum):
        return (one, one), none
    alike = all(x.shape == node.y.shape for x in node.reads)
    if node.y.dtype != tf.float32 or not alike or node.y.channels is None:
        return None
    if node.type == "Sub":
        return (one, -one), none
    return ((one,) * len(node.reads), none) if node.type == "AddN" else None


def _summed(
    program: Program, node: Node, terms: dict[Value, np.ndarray], shift: np.ndarray
) -> Program:
    """Writes a sum as k_1 x_1 + k_2 x_2 + … + shift, of affine operations and sums."""
    made, parts = list[Node](), list[Value]()
    for place, (value, k) in enumerate(terms.items()):
        b = 0.0 if place else shift
        made.append(Affine(f"{node.name}_{place}", (value,), (value.like(),), k, b))
        parts.append(made[-1].y)
    total = parts[0]
    for part in parts[1:]:
        made.append(Sum(node.name, (total, part), (total.like(),)))
        total = made[-1].y
    made[-1] = made[-1].making(node.y)
    return program.with_nodes([node], made)


# --- one operation after the other


class _Lowering:
    """Reads operations one after the other.

    Attributes:
        values: The value of each tensor, by name; equal tensors share one.
        nodes: The nodes that make these values.
        repeated: The names of kernels that equal an earlier one, with that one's name.
    """

    def __init__(self, inputs: Sequence[Any], key: Callable[[Node], Any]) -> None:
        self._inputs, self._key = inputs, key
        self.values: dict[str, Value] = {}
        self.nodes: list[Node] = []
        self.repeated: list[tuple[str, str]] = []
        self._makers: dict[Value, Node] = {}
        self._firsts: dict[Any, Node] = {}

    def read(self, op: Any) -> None:
        names = [tensor.name for tensor in op.outputs]
        reads = tuple(self.values[tensor.name] for tensor in op.inputs)
        place = always_selected(op)
        idle = op.type in NOTHING or place is not None
        makes = reads if idle else tuple(map(_value_of, op.outputs))
        if place is not None:
            makes = reads[place : place + 1]
        elif makes and not idle and op not in self._inputs:
            node = self._node(op, reads, makes)
            changes = op.op_def.is_stateful
            first = node if changes else self._firsts.setdefault(self._key(node), node)
            if first is node:
                self.add(node)
            elif isinstance(node, Kernel):
                self.repeated.append((node.name, first.name))
            makes = (*first.makes, *makes[len(first.makes) :])
        self.values.update(zip(names, makes, strict=False))

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        self._makers.update((value, node) for value in node.makes)

    def _node(
        self, op: Any, reads: tuple[Value, ...], makes: tuple[Value, ...]
    ) -> Node:
        value = constant(op.outputs[0])
        if value is not None:
            return Constant(op.name, (), makes, value)
        node, read, y = Other(op.name, reads, makes, op), _KNOWN.get(op.type), makes[0]
        if read is None or y.dtype is not _FLOAT or y.channels is None:
            read = _range if op.type == "FakeQuantWithMinMaxVars" else None
        return (read and read(self, node)) or node

    def constant(self, value: Value) -> np.ndarray | None:
        node = self._makers.get(value)
        return node.value if isinstance(node, Constant) else None

    def constants(self, node: Other) -> list[Any] | None:
        """Returns all inputs but the first, if these are constants; else None."""
        known = [self.constant(value) for value in node.reads[1:]]
        return None if any(value is None for value in known) else known

    def numbers(self, node: Other) -> tuple[int, np.ndarray] | None:
        """Returns the place of an input with a number per channel, and the numbers."""
        for place, value in enumerate(node.reads):
            numbers = self.constant(value)
            if numbers is None or node.reads[1 - place].shape != node.y.shape:
                continue
            each = per_channel(numbers, node.y.channels)
            if each is not None:
                return place, each
        return None


def _affine(node: Other, place: int, k: Any, b: Any = 0.0) -> Affine:
    return Affine(node.name, node.reads[place : place + 1], node.makes, k, b)


def _product(known: _Lowering, node: Other) -> Node | None:
    numbers = known.numbers(node)
    return numbers and _affine(node, 1 - numbers[0], numbers[1])


def _quotient(known: _Lowering, node: Other) -> Node | None:
    place, divisor = known.numbers(node) or (0, np.zeros(1))
    if place == 0 or not np.all(divisor):
        return None
    return _affine(node, 0, 1 / divisor.astype(np.float64))


def _sum(known: _Lowering, node: Other) -> Node | None:
    factor, numbers = -1.0 if node.type == "Sub" else 1.0, known.numbers(node)
    if numbers is not None:
        place, b = numbers
        return (
            _affine(node, 0, 1.0, factor * b) if place else _affine(node, 1, factor, b)
        )
    alike = all(value.shape == node.y.shape for value in node.reads)
    return Sum(node.name, node.reads, node.makes) if factor == 1 and alike else None


def _norm(known: _Lowering, node: Other) -> Node | None:
    constants, last = known.constants(node), node.op.get_attr("data_format") == b"NHWC"
    if constants is None or not last or node.op.get_attr("is_training"):
        return None
    # The operation also returns the mean and the variance.
    for place, made in enumerate(node.makes[1:3]):
        known.add(
            Constant(f"{node.name}/moment_{place}", (), (made,), constants[2 + place])
        )
    gamma, beta, mean, variance = (np.asarray(x, np.float64) for x in constants)
    k = gamma / np.sqrt(variance + node.op.get_attr("epsilon"))
    return Affine(node.name, node.reads[:1], node.makes[:1], k, beta - mean * k)


def _larqs_sign(known: _Lowering, node: Other) -> Node | None:
    if not is_larqs_sign(node.op):
        return None
    x = known.values[node.op.inputs[0].op.inputs[0].op.inputs[0].name]
    return Sign(node.name, (x,), node.makes)


def _comparison(known: _Lowering, node: Other) -> Node | None:
    """Returns the sign that is +1 from a threshold on; None for other comparisons."""
    condition, *ends = node.op.inputs
    if condition.op.type != "GreaterEqual":
        return None
    x, *numbers = (known.values[t.name] for t in (*condition.op.inputs, *ends))
    threshold, *both = map(known.constant, numbers)
    found = [float(c) for c in both if c is not None and c.size == 1]
    fits = x.dtype is _FLOAT and x.shape == node.y.shape and found == [1, -1]
    each = None if threshold is None else per_channel(threshold, node.y.channels)
    return (
        None if each is None or not fits else Sign(node.name, (x,), node.makes, -each)
    )


def _joined(known: _Lowering, node: Other) -> Node | None:
    *parts, axis = node.reads
    place, last = known.constant(axis), len(node.y.shape or ()) - 1
    if any(value.channels is None for value in parts):
        return None
    if place is None or int(place) not in (-1, last):
        return None
    return Joined(node.name, tuple(parts), node.makes)


def _pad(known: _Lowering, node: Other) -> Node | None:
    constants = known.constants(node)
    if constants is None:
        return None
    sides, number = [*constants, np.zeros(1)][:2]
    pairs = [tuple(side) for side in sides.tolist()]
    return Pad(node.name, node.reads[:1], node.makes, pairs, float(number.item()))


def _range(known: _Lowering, node: Other) -> Node | None:
    ends = known.constants(node)
    if ends is None:
        return None
    low, high = map(float, representable_range(*ends))
    return Range(node.name, node.reads[:1], node.makes, low, high)


def _kernel(known: _Lowering, node: Other) -> Node | None:
    constants, op, options = known.constants(node), node.op, dict[str, Any]()
    if constants is None:
        return None
    if op.type == "MatMul":
        turned = op.get_attr("transpose_a") or op.get_attr("transpose_b")
        fits = not turned and len(node.x.shape or ()) == 2
    else:
        options = {n: list(op.get_attr(n)) for n in ("strides", "dilations")}
        options["padding"] = op.get_attr("padding").decode()
        explicit = options["padding"] == "EXPLICIT"
        fits = not explicit and op.get_attr("data_format") == b"NHWC"
    if not fits:
        return None
    (weights,), reads = constants, node.reads[:1]
    if op.type == "Conv2D":
        inputs = weights.shape[-2]
        options["groups"] = (node.x.channels or inputs) // inputs
    return Kernel(node.name, reads, node.makes, weights, op.type, **options)


# The function that reads an operation of float32 numbers, by the operation's type.
_KNOWN: dict[str, Callable[[_Lowering, Other], Node | None]] = {
    **dict.fromkeys(("Add", "AddV2", "BiasAdd", "Sub"), _sum),
    "Mul": _product,
    "RealDiv": _quotient,
    "Neg": lambda known, node: _affine(node, 0, -1.0),
    "FusedBatchNormV3": _norm,
    "Sign": _larqs_sign,
    "SelectV2": _comparison,
    "ConcatV2": _joined,
    **dict.fromkeys(("Pad", "PadV2"), _pad),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative", "MatMul"), _kernel),
}


def _value_of(tensor: Any) -> Value:
    rank = tensor.shape.rank
    return Value(None if rank is None else tensor.shape.as_list(), tensor.dtype)
