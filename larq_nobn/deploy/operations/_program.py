"""An immutable graph of operations, of which files are made."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf


class Value:
    """What a node makes, and others read.

    Attributes:
        shape: One size per axis, None where it is open; None of an open rank.
        dtype: Of its numbers.
    """

    def __init__(self, shape: Sequence[int | None] | None, dtype: tf.DType):
        self.shape = None if shape is None else tuple(shape)
        self.dtype = dtype

    def like(self) -> Value:
        """Returns another value of the same form."""
        return Value(self.shape, self.dtype)

    @property
    def channels(self) -> int | None:
        return self.shape[-1] if self.shape else None


@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
        name: Where it comes from, 'net/layer/operation'.
        kind: One of `KINDS`, or "other": a TensorFlow operation as it is.
        reads, makes: Its inputs and outputs.
        arguments: What it computes, by the names that its kind has.
    """

    name: str
    kind: str
    reads: tuple[Value, ...]
    makes: tuple[Value, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def x(self) -> Value:
        """The first that it reads."""
        return self.reads[0]

    @property
    def y(self) -> Value:
        """The first that it makes."""
        return self.makes[0]

    @property
    def type(self) -> str:
        """The type of a TensorFlow operation; of others empty."""
        return self.arguments["op"].type if self.kind == "other" else ""

    def reading(self, old: Value, new: Value) -> Node:
        """Returns the same operation of another value."""
        reads = tuple(new if value is old else value for value in self.reads)
        return replace(self, reads=reads)

    def making(self, value: Value) -> Node:
        """Returns the same operation, whose output is another value."""
        return replace(self, makes=(value,))

    def with_arguments(self, **arguments: Any) -> Node:
        """Returns the same operation with other arguments."""
        return replace(self, arguments={**self.arguments, **arguments})


def affine(name: str, x: Value, k: np.ndarray, y: Value, b: Any = 0.0) -> Node:
    """Returns y = k x + b, of numbers per channel."""
    k, b = np.broadcast_arrays(np.asarray(k, float), np.asarray(b, float))
    return Node(name, "affine", (x,), (y,), {"k": k, "b": b})


def channelwise(name: str, x: Value, y: Value, k: Any, b: Any = 0.0) -> Node:
    """k x + b of a map as a convolution of single channels."""
    k, b = np.broadcast_arrays(np.asarray(k, float), np.asarray(b, float))
    arguments = {
        "of": "DepthwiseConv2dNative",
        "kernel": k[None, None, :, None],
        "scale": np.ones_like(k),
        "bias": b,
        "binary": False,
        "groups": 1,
        "strides": [1, 1, 1, 1],
        "padding": "VALID",
        "dilations": [1, 1, 1, 1],
    }
    return Node(name, "kernel", (x,), (y,), arguments)


def is_scale(node: Node) -> bool:
    return node.kind == "affine" and not np.any(node["b"])


class Program:
    """Operations, each after those that it depends on.

    Arguments:
        inputs: What is given.
        nodes: In any order; what no output depends on is left out.
        outputs: What is wanted.
    """

    def __init__(
        self, inputs: Sequence[Value], nodes: Iterable[Node], outputs: Sequence[Value]
    ):
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._makers = {id(value): node for node in nodes for value in node.makes}
        self.nodes = tuple(self._ordered())
        self._makers = {id(value): node for node in self.nodes for value in node.makes}

    def _ordered(self) -> list[Node]:
        order: dict[int, Node] = {}
        waiting = [self._makers[id(x)] for x in self.outputs if id(x) in self._makers]
        waiting.reverse()
        while waiting:
            node = waiting[-1]
            makers = (self.maker(value) for value in node.reads)
            before = [m for m in makers if m is not None and id(m) not in order]
            if not before or id(node) in order:
                order[id(waiting.pop())] = node
            waiting += reversed(before)
        return list(order.values())

    def maker(self, value: Value) -> Node | None:
        """The node that makes a value; None of an input."""
        return self._makers.get(id(value))

    def readers(self, value: Value) -> list[Node]:
        """The nodes that read a value, each once."""
        return self._readers.get(id(value), [])

    def is_output(self, value: Value) -> bool:
        return any(value is output for output in self.outputs)

    def reader(self, value: Value) -> Node | None:
        """The one node that reads a value, once; None if there are others."""
        readers = self.readers(value)
        if len(readers) != 1 or self.is_output(value):
            return None
        once = sum(read is value for read in readers[0].reads) == 1
        return readers[0] if once else None

    def sole_maker(self, value: Value, *kinds: str) -> Node | None:
        """The node that makes a value which is read once; None of other kinds.

        Of TensorFlow operations as they are, the kinds are their types.
        """
        node = self.maker(value)
        if node is None or not {node.kind, node.type} & {*kinds}:
            return None
        return node if self.reader(value) is not None else None

    def with_nodes(
        self,
        old: Iterable[Node],
        new: Iterable[Node],
        instead: Sequence[tuple[Value, Value]] = (),
    ) -> Program:
        """Returns the program with some nodes in the place of others.

        Arguments:
            old: The nodes that go.
            new: Those that come.
            instead: Pairs of a value and of what all that reads it reads from now on.
        """
        gone = {id(node) for node in old}
        nodes = [node for node in self.nodes if id(node) not in gone]
        nodes += new
        outputs = list(self.outputs)
        for before, after in instead:
            nodes = [
                node.reading(before, after)
                if any(read is before for read in node.reads)
                else node
                for node in nodes
            ]
            outputs = [after if output is before else output for output in outputs]
        return Program(self.inputs, nodes, outputs)

    @cached_property
    def _readers(self) -> dict[int, list[Node]]:
        readers: dict[int, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for key in {id(value): None for value in node.reads}:
                readers[key].append(node)
        return readers


# Of the noise, what counts of weights have: 4 float32 epsilons where others have 32.
_OF_COUNTS = 1 / 8
# The numbers of a node.
_NUMBERS = ("value", "k", "b", "kernel", "scale", "bias", "slope")


def noisy(program: Program, size: float) -> Program:
    """Returns a program whose numbers are off by a part of themselves, at random.

    What its values then are off by tells how far the sums of the given one round. LCE
    subtracts the bits that differ from all there are, after both are scaled, so a
    binary convolution rounds as the number of its weights does.
    """
    random = np.random.default_rng(0)

    def off(numbers: np.ndarray, size: float = size) -> np.ndarray:
        signs = random.integers(0, 2, numbers.shape) * 2 - 1
        return (numbers * (1 + size * signs)).astype(numbers.dtype)

    nodes = []
    for node in program.nodes:
        exact = {"kernel"} if node.arguments.get("binary") else set[str]()
        names = [name for name in _NUMBERS if name in node.arguments.keys() - exact]
        own = {name: np.asarray(node[name]) for name in names}
        reals = {name: off(x) for name, x in own.items() if x.dtype.kind == "f"}
        if exact:
            most = np.prod(node["kernel"].shape[:-1]) * np.asarray(node["scale"], float)
            reals["bias"] = node["bias"] + off(most, size * _OF_COUNTS) - most
        nodes.append(node.with_arguments(**reals))
    return Program(program.inputs, nodes, program.outputs)


def key_of(node: Node, without: Sequence[str] = ()) -> Any:
    """Returns what nodes share that compute the same of the same values.

    Arguments:
        node: A node.
        without: The names of arguments that may differ.
    """
    kept = {name: x for name, x in node.arguments.items() if name not in without}
    reads = tuple(id(value) for value in node.reads)
    return node.kind, reads, *((name, _said(x)) for name, x in sorted(kept.items()))


def _said(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        digest = hashlib.sha256(argument.tobytes()).digest()
        return argument.shape, argument.dtype.str, digest
    if not isinstance(argument, tf.Operation):
        return str(argument)
    attributes = sorted(argument.node_def.attr.items())
    said = [
        (name, value.SerializeToString(deterministic=True))
        for name, value in attributes
        if not name.startswith("_")
    ]
    return argument.type, *said


def repeated_kernels(program: Program) -> list[str]:
    """Names the binary kernels that read what an earlier equal one reads.

    The converter merges those, whatever scales and biases follow.
    """
    seen, names = set[Any](), list[str]()
    for name, node in binary_kernels(program).items():
        key = key_of(node, without=("scale", "bias"))
        names += [name] * (key in seen)
        seen.add(key)
    return names


def binary_kernels(program: Program) -> dict[str, Node]:
    """Returns the binary kernels of a program by their names."""
    kernels = (node for node in program.nodes if node.kind == "kernel")
    return {node.name: node for node in kernels if node["binary"]}


_MOST_EDITS = 50  # per node; a network needs three

Rule = Callable[[Program, Node], Program | None]


def everywhere(program: Program, rules: Sequence[Rule]) -> Program:
    """Applies to every node the first rule that fits, until none does.

    Or until each was edited many times: what rules do and undo computes the same.
    """
    changed, edits = True, _MOST_EDITS * len(program.nodes)
    while changed and edits > 0:
        changed = False
        for node in program.nodes:
            if program.maker(node.y) is not node:
                continue  # an earlier rule has replaced it
            outcomes = (rule(program, node) for rule in rules)
            edited = next((edit for edit in outcomes if edit is not None), None)
            if edited is not None:
                program, changed = edited, True
                edits -= 1
    return program
