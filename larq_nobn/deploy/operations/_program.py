"""An immutable graph of operations, of which files are made."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import numpy as np
import tensorflow as tf

from ._kinds import Constant, InvalidProgram, Kernel, Node, Value

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    K = TypeVar("K", bound=Node, default=Node)


class Origin(NamedTuple):
    """Where the signs come from that a program has in the place of others.

    Attributes:
        of: The values that it has.
        decode: Makes the signs that were there, ±1, of arrays of these. It is linear,
            so that it makes pre-activations of pre-activations, too.
    """

    of: tuple[Value, ...]
    decode: Callable[..., np.ndarray]


class Program:
    """Operations, each after those that it depends on.

    Arguments:
        inputs: What is given.
        nodes: In any order; what no output depends on is left out.
        outputs: What is wanted.
        origins: By signs that rules have replaced, what tells these. Only verification
            reads it.

    Raises:
        InvalidProgram: If nothing makes what a node reads, or an output.
    """

    def __init__(
        self,
        inputs: Sequence[Value],
        nodes: Iterable[Node],
        outputs: Sequence[Value],
        origins: Mapping[Value, Origin] | None = None,
    ):
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.origins = origins or {}
        self._makers: dict[Value, Node | None] = dict.fromkeys(self.inputs)
        self._makers.update((value, node) for node in nodes for value in node.makes)
        self.nodes = tuple(self._ordered())
        made = ((value, node) for node in self.nodes for value in node.makes)
        self._makers = {**dict.fromkeys(self.inputs), **dict(made)}

    def _ordered(self) -> list[Node]:
        order = dict[Node, None]()
        waiting = [made for x in self.outputs[::-1] if (made := self._made(x))]
        while waiting:
            node = waiting[-1]
            before = [
                made
                for x in node.reads
                if (made := self._made(x, node)) and made not in order
            ]
            if not before or node in order:
                order[waiting.pop()] = None
            waiting += reversed(before)
        return list(order)

    def _made(self, value: Value, reader: Node | None = None) -> Node | None:
        if value not in self._makers:
            whose = "an output is" if reader is None else f"node {reader} reads"
            raise InvalidProgram(f"Nothing makes what {whose}.")
        return self._makers[value]

    def maker(self, value: Value, *kinds: type[K] | str) -> K | None:
        """The node that makes a value; None of an input, or of other kinds.

        Of TensorFlow operations as they are, the kinds are their types.
        """
        node: Any = self._makers.get(value)
        fits = not kinds or type(node) in kinds or (node and node.type in kinds)
        return node if fits else None

    def constant(self, value: Value) -> np.ndarray | None:
        """What a value is, if that is given."""
        node = self.maker(value, Constant)
        return None if node is None else node.value

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

    def reader(self, value: Value, *kinds: type[K] | str) -> K | None:
        """The one node that reads a value, once; None if there are others."""
        readers: list[Any] = self.readers(value)
        if len(readers) != 1 or self.is_output(value):
            return None
        (node,) = readers
        fits = not kinds or node.is_a(*kinds)
        return node if fits and node.reads.count(value) == 1 else None

    def sole_maker(self, value: Value, *kinds: type[K] | str) -> K | None:
        """The node that makes a value which is read once; None of other kinds."""
        return self.maker(value, *kinds) if self.reader(value) is not None else None

    def with_nodes(
        self,
        old: Iterable[Node],
        new: Iterable[Node],
        moved: Mapping[Value, Value] | None = None,
        origins: Mapping[Value, Origin] | None = None,
    ) -> Program:
        """Returns the program with some nodes in the place of others.

        What else reads a value of `moved`, outputs included, reads the one there. A
        rule that replaces a sign says where to find it: `origins` has these.
        """
        gone, to = {*old}, moved or {}
        kept = (node for node in self.nodes if node not in gone)
        if to:
            kept = (node.reading_moved(to) for node in kept)
        outputs = [to.get(output, output) for output in self.outputs]
        known = {**self.origins, **(origins or {})}
        return Program(self.inputs, [*kept, *new], outputs, known)

    def sources(self, value: Value) -> list[Value]:
        """The values of the program that tell a sign; none if it is lost."""
        if value in self._makers or value not in self.origins:
            return [value] * (value in self._makers)
        parts = [self.sources(x) for x in self.origins[value].of]
        return [x for part in parts for x in part] if all(parts) else []

    def decoded(self, value: Value, arrays: Mapping[Value, np.ndarray]) -> np.ndarray:
        """Returns a sign, ±1, of arrays of its sources."""
        if value in self._makers:
            return arrays[value]
        origin = self.origins[value]
        return origin.decode(*(self.decoded(x, arrays) for x in origin.of))

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
    own = (getattr(node, field.name) for field in fields(node)[3:])
    return type(node), node.reads, *map(_said, own)


def _said(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        digest = hashlib.sha256(argument.tobytes()).digest()
        return argument.shape, argument.dtype.str, digest
    if not isinstance(argument, tf.Operation):
        return str(argument)
    attributes = sorted(argument.node_def.attr.items())
    said = ((n, str(value)) for n, value in attributes if not n.startswith("_"))
    return argument.type, *said


def repeated_kernels(program: Program) -> list[Kernel]:
    """Returns the binary kernels that read what an earlier equal one reads.

    The converter merges those, whatever scales and biases follow.
    """
    seen, repeated = set[Any](), list[Kernel]()
    for node in binary_kernels(program):
        plain = replace(node, scale=1.0, bias=0.0, weights=node.weights > 0, part_of="")
        key = key_of(plain)
        repeated += [node] * (key in seen)
        seen.add(key)
    return repeated


def binary_kernels(program: Program) -> list[Kernel]:
    """Returns the binary kernels of a program, of one in groups each."""
    kernels = (node for node in program.nodes if isinstance(node, Kernel))
    return [node for node in kernels if node.binary]


_MOST_EDITS = 50  # per node; a network needs three

# What a rule makes of a program at a node, or why it does not fit there.
Edit = Program | str
# It is asked of nodes of the kinds that its argument `node` is annotated with.
Rule = Callable[[Program, Any], Edit]


def everywhere(program: Program, rules: Sequence[Rule]) -> Program:
    """Applies to every node the first rule that fits, until none does.

    Or until each was edited many times: what rules do and undo computes the same.
    """

    fitting: dict[type[Node], list[Rule]] = {}

    changed, edits = True, _MOST_EDITS * len(program.nodes)
    while changed and edits > 0:
        changed = False
        for node in program.nodes:
            if program.maker(node.y) is not node:
                continue  # an earlier rule has replaced it
            kind = type(node)
            if kind not in fitting:
                fitting[kind] = [r for r in rules if issubclass(kind, _kinds_of(r))]
            for rule in fitting[kind]:
                try:
                    edited = rule(program, node)
                except InvalidProgram as error:
                    name = getattr(rule, "func", rule).__name__
                    raise InvalidProgram(
                        f"Rule {name!r} at node {node}: {error}"
                    ) from error
                if isinstance(edited, Program):
                    program, changed = edited, True
                    edits -= 1
                    break
    return program


def why_not(program: Program, node: Node, rule: Rule) -> str:
    """Says why a rule does not fit a node; empty if it does."""
    if not isinstance(node, _kinds_of(rule)):
        return f"it is not for a node of kind {type(node).__name__}"
    outcome = rule(program, node)
    return outcome if isinstance(outcome, str) else ""


@cache
def _kinds_of(rule: Rule) -> Any:
    return get_type_hints(getattr(rule, "func", rule)).get("node", Node)
