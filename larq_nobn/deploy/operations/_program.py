"""An immutable graph of operations, of which files are made."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

    @property
    def sizes(self) -> list[int]:
        """Those of the shape that are known."""
        return [size for size in self.shape or () if size]


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
        return self.reading_moved({old: new})

    def reading_moved(self, moved: Mapping[Value, Value]) -> Node:
        """Returns the same operation of other values; itself if it reads none."""
        reads = tuple(moved.get(value, value) for value in self.reads)
        return self if reads == self.reads else replace(self, reads=reads)

    def making(self, value: Value) -> Node:
        """Returns the same operation, whose output is another value."""
        return replace(self, makes=(value,))

    def with_arguments(self, **arguments: Any) -> Node:
        """Returns the same operation with other arguments."""
        return replace(self, arguments={**self.arguments, **arguments})


def affine(name: str, x: Value, k: Any, y: Value, b: Any = 0.0) -> Node:
    """Returns y = k x + b, of numbers per channel, or of one for all."""
    return Node(name, "affine", (x,), (y,), {"k": _each(x, k), "b": _each(x, b)})


def sign(name: str, x: Value, y: Value, shift: Any = 0.0) -> Node:
    """Returns the sign of x + shift, of which 0 is positive."""
    return Node(name, "sign", (x,), (y,), {"shift": _each(x, shift)})


def kernel(name: str, x: Value, y: Value, weights: Any, **arguments: Any) -> Node:
    """Returns y = weights * x; of a convolution, what is not given as plain ones are.

    A dense layer has strides, padding and dilations, too, as the 1x1 convolution has
    that it is.
    """
    channels = y.channels or 1
    own = {
        "of": "Conv2D",
        "kernel": weights,
        "scale": np.ones(channels),
        "bias": np.zeros(channels),
        "binary": False,
        "groups": 1,
        "strides": [1, 1, 1, 1],
        "padding": "VALID",
        "dilations": [1, 1, 1, 1],
    }
    return Node(name, "kernel", (x,), (y,), {**own, **arguments})


def channelwise(name: str, x: Value, k: Any, y: Value, b: Any = 0.0) -> Node:
    """Returns k x + b of a map as a convolution of single channels."""
    weights, of = _each(x, k)[None, None, :, None], "DepthwiseConv2dNative"
    return kernel(name, x, y, weights, of=of, bias=_each(x, b))


def _each(x: Value, numbers: Any) -> np.ndarray:
    return np.broadcast_to(np.asarray(numbers, float), x.channels or 1)


def per_channel(numbers: np.ndarray, channels: int | None) -> np.ndarray | None:
    """One number, or one for each of the last axis, (C,); None of others."""
    if numbers.size == 1 or numbers.shape[-1:] == (numbers.size,) == (channels,):
        return numbers.reshape(-1).astype(np.float64)
    return None


def is_scale(node: Node) -> bool:
    return node.kind == "affine" and not np.any(node["b"])


class InvalidProgram(Exception):
    """Raised for a program that cannot be computed: some rule is wrong."""


class Program:
    """Operations, each after those that it depends on.

    Arguments:
        inputs: What is given.
        nodes: In any order; what no output depends on is left out.
        outputs: What is wanted.

    Raises:
        InvalidProgram: If nothing makes what a node reads, or an output.
    """

    def __init__(
        self, inputs: Sequence[Value], nodes: Iterable[Node], outputs: Sequence[Value]
    ):
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._makers = {value: node for node in nodes for value in node.makes}
        self._check("the program", self.outputs)
        self.nodes = tuple(self._ordered())
        self._makers = {value: node for node in self.nodes for value in node.makes}

    def _ordered(self) -> list[Node]:
        order: dict[Node, None] = {}
        waiting = [self._makers[x] for x in self.outputs[::-1] if x in self._makers]
        while waiting:
            node = waiting[-1]
            makers = [*map(self._makers.get, node.reads)]
            if None in makers:
                self._check(f"node {node.name!r} ({node.kind})", node.reads)
            before = [m for m in makers if m is not None and m not in order]
            if not before or node in order:
                order[waiting.pop()] = None
            waiting += reversed(before)
        return list(order)

    def _check(self, whose: str, values: Sequence[Value]) -> None:
        for place, value in enumerate(values):
            if value not in self._makers and value not in self.inputs:
                raise InvalidProgram(f"Nothing makes value {place} of {whose}.")

    def maker(self, value: Value, *kinds: str) -> Node | None:
        """The node that makes a value; None of an input, or of other kinds.

        Of TensorFlow operations as they are, the kinds are their types.
        """
        node = self._makers.get(value)
        fits = node is None or not kinds or {node.kind, node.type} & {*kinds}
        return node if fits else None

    def constant(self, value: Value) -> np.ndarray | None:
        """What a value is, if that is given."""
        node = self.maker(value, "constant")
        return None if node is None else node["value"]

    def readers(self, value: Value) -> list[Node]:
        """The nodes that read a value, each once."""
        return self._readers.get(value, [])

    def ends(self, value: Value, passes: Callable[[Node], bool]) -> Iterator[Node]:
        """Yields the nodes that read a value past those that only hand it on."""
        for reader in self.readers(value):
            if passes(reader):
                yield from self.ends(reader.y, passes)
            else:
                yield reader

    def is_output(self, value: Value) -> bool:
        return value in self.outputs

    def reader(self, value: Value, *kinds: str) -> Node | None:
        """The one node that reads a value, once; None if there are others."""
        readers = self.readers(value)
        if len(readers) != 1 or self.is_output(value):
            return None
        fits = not kinds or {readers[0].kind, readers[0].type} & {*kinds}
        return readers[0] if fits and readers[0].reads.count(value) == 1 else None

    def sole_maker(self, value: Value, *kinds: str) -> Node | None:
        """The node that makes a value which is read once; None of other kinds."""
        return self.maker(value, *kinds) if self.reader(value) is not None else None

    def with_nodes(
        self,
        old: Iterable[Node],
        new: Iterable[Node],
        moved: Mapping[Value, Value] | None = None,
    ) -> Program:
        """Returns the program with some nodes in the place of others.

        What else reads a value of `moved`, outputs included, reads the one there.
        """
        gone, to = {*old}, moved or {}
        kept = (node for node in self.nodes if node not in gone)
        if to:
            kept = (node.reading_moved(to) for node in kept)
        outputs = [to.get(output, output) for output in self.outputs]
        return Program(self.inputs, [*kept, *new], outputs)

    def replace(self, value: Value, by: Value) -> Program:
        """Returns the program in which all that reads a value reads another one."""
        return self.with_nodes((), (), {value: by})

    @cached_property
    def _readers(self) -> dict[Value, list[Node]]:
        readers: dict[Value, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for value in dict.fromkeys(node.reads):
                readers[value].append(node)
        return readers


def key_of(node: Node) -> Any:
    """Returns what nodes share that compute the same of the same values."""
    numbers = ((name, _said(x)) for name, x in sorted(node.arguments.items()))
    return node.kind, node.reads, *numbers


def _said(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        digest = hashlib.sha256(argument.tobytes()).digest()
        return argument.shape, argument.dtype.str, digest
    if not isinstance(argument, tf.Operation):
        return str(argument)
    attributes = sorted(argument.node_def.attr.items())
    said = ((n, str(value)) for n, value in attributes if not n.startswith("_"))
    return argument.type, *said


def repeated_kernels(program: Program) -> list[str]:
    """Names the binary kernels that read what an earlier equal one reads.

    The converter merges those, whatever scales and biases follow.
    """
    seen, names = set[Any](), list[str]()
    for name, node in binary_kernels(program).items():
        key = key_of(node.with_arguments(scale=None, bias=None))
        names += [name] * (key in seen)
        seen.add(key)
    return names


def binary_kernels(program: Program) -> dict[str, Node]:
    """Returns the binary kernels of a program by their names."""
    kernels = (node for node in program.nodes if node.kind == "kernel")
    return {node.name: node for node in kernels if node["binary"]}


_MOST_EDITS = 50  # per node; a network needs three

# Of a node, the edited program, or why the rule does not fit.
Rule = Callable[[Program, Node], "Program | str | None"]


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
            outcomes = (applied(program, node, rule) for rule in rules)
            edited = next((x for x in outcomes if isinstance(x, Program)), None)
            if edited is not None:
                program, changed = edited, True
                edits -= 1
    return program


def applied(program: Program, node: Node, rule: Rule) -> Program | str | None:
    """Returns what a rule makes of a program at a node, or why it does not fit."""
    try:
        return rule(program, node)
    except InvalidProgram as error:
        raise InvalidProgram(
            f"Rule {rule_name(rule)!r} at node {node.name!r} ({node.kind}): {error}"
        ) from error


def why_not(program: Program, node: Node, rule: Rule) -> str:
    """Says why a rule does not fit a node; empty if it does."""
    outcome = applied(program, node, rule)
    return outcome if isinstance(outcome, str) else ""


def rule_name(rule: Rule) -> str:
    return str(getattr(rule, "func", rule).__name__)
