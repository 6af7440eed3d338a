"""An immutable graph of operations, from which files are written."""

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
    """How to recover a sign that a rule has replaced.

    Attributes:
        of: The values of the program from which it is computed.
        decode: Returns the replaced sign, ±1, for arrays of these values. It is linear,
            so it also maps pre-activations to pre-activations.
    """

    of: tuple[Value, ...]
    decode: Callable[..., np.ndarray]


class Program:
    """Operations, each after those that it depends on, from inputs to outputs.

    Arguments:
        inputs: The values that the caller provides.
        nodes: In any order; nodes that no output depends on are left out.
        outputs: The values to compute.
        origins: How to recover each sign that rules have replaced. Only verification
            reads it.

    Raises:
        InvalidProgram: If no node makes a value that a node reads or that is an output.
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
        """Returns the node that makes a value; None for an input, or other kinds.

        The kind of a TensorFlow operation without a class is its type, as 'Relu'.
        """
        node: Any = self._makers.get(value)
        fits = not kinds or type(node) in kinds or (node and node.type in kinds)
        return node if fits else None

    def constant(self, value: Value) -> np.ndarray | None:
        """Returns the array of a constant; None for other values."""
        node = self.maker(value, Constant)
        return None if node is None else node.value

    def readers(self, value: Value) -> list[Node]:
        """Returns the nodes that read a value, each once."""
        return self._readers.get(value, [])

    def ends(self, value: Value, passes: Callable[[Node], bool]) -> Iterator[Node]:
        """Yields the nodes that read a value, looking through those that pass it on."""
        for reader in self.readers(value):
            if passes(reader):
                yield from self.ends(reader.y, passes)
            else:
                yield reader

    def is_output(self, value: Value) -> bool:
        return value in self.outputs

    def reader(self, value: Value, *kinds: type[K] | str) -> K | None:
        """Returns the only node that reads a value, and only once; else None."""
        readers: list[Any] = self.readers(value)
        if len(readers) != 1 or self.is_output(value):
            return None
        (node,) = readers
        fits = not kinds or node.is_a(*kinds)
        return node if fits and node.reads.count(value) == 1 else None

    def sole_maker(self, value: Value, *kinds: type[K] | str) -> K | None:
        """Returns the node that makes a value which is read only once; else None."""
        return self.maker(value, *kinds) if self.reader(value) is not None else None

    def with_nodes(
        self,
        old: Iterable[Node],
        new: Iterable[Node],
        moved: Mapping[Value, Value] | None = None,
        origins: Mapping[Value, Origin] | None = None,
    ) -> Program:
        """Returns the program with nodes `new` in the place of nodes `old`.

        Other readers of a key of `moved`, and outputs, read the key's value instead.
        A rule that replaces a sign says in `origins` how to recover it.
        """
        gone, to = {*old}, moved or {}
        kept = (node for node in self.nodes if node not in gone)
        if to:
            kept = (node.reading_moved(to) for node in kept)
        outputs = [to.get(output, output) for output in self.outputs]
        known = {**self.origins, **(origins or {})}
        return Program(self.inputs, [*kept, *new], outputs, known)

    def sources(self, value: Value) -> list[Value]:
        """Returns the values that a sign is recovered from; none if it is lost."""
        if value in self._makers or value not in self.origins:
            return [value] * (value in self._makers)
        sources = [self.sources(x) for x in self.origins[value].of]
        return [x for each in sources for x in each] if all(sources) else []

    def decoded(self, value: Value, arrays: Mapping[Value, np.ndarray]) -> np.ndarray:
        """Recovers a sign, ±1, from the arrays of its sources."""
        if value in self._makers:
            return arrays[value]
        origin = self.origins[value]
        return origin.decode(*(self.decoded(x, arrays) for x in origin.of))

    def replace(self, value: Value, by: Value) -> Program:
        """Returns the program in which all readers of a value read another one."""
        return self.with_nodes((), (), {value: by})

    @cached_property
    def _readers(self) -> dict[Value, list[Node]]:
        readers: dict[Value, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for value in dict.fromkeys(node.reads):
                readers[value].append(node)
        return readers


def key_of(node: Node) -> Any:
    """Returns a key that is equal for nodes that compute the same."""
    own = (getattr(node, field.name) for field in fields(node)[3:])
    return type(node), node.reads, *map(_hashable, own)


def _hashable(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        digest = hashlib.sha256(argument.tobytes()).digest()
        return argument.shape, argument.dtype.str, digest
    if not isinstance(argument, tf.Operation):
        return str(argument)
    attributes = sorted(argument.node_def.attr.items())
    texts = ((n, str(value)) for n, value in attributes if not n.startswith("_"))
    return argument.type, *texts


def repeated_kernels(program: Program) -> list[Kernel]:
    """Returns the binary kernels that equal an earlier one and read the same value.

    The converter merges these, whatever scales and biases follow.
    """
    seen, repeated = set[Any](), list[Kernel]()
    for node in binary_kernels(program):
        plain = replace(node, scale=1.0, bias=0.0, weights=node.weights > 0, part_of="")
        key = key_of(plain)
        repeated += [node] * (key in seen)
        seen.add(key)
    return repeated


def binary_kernels(program: Program) -> list[Kernel]:
    """Returns the binary kernels of a program; those in groups have one a group."""
    kernels = (node for node in program.nodes if isinstance(node, Kernel))
    return [node for node in kernels if node.binary]


_MOST_EDITS = 50  # allowed per node; a network needs three

# A rule returns the edited program, or the reason why it does not fit the node.
Edit = Program | str
# It is tried on nodes of the kinds with which its argument `node` is annotated.
Rule = Callable[[Program, Any], Edit]


def everywhere(program: Program, rules: Sequence[Rule]) -> Program:
    """Applies to every node the first rule that fits, until no rule fits.

    Rules may undo each other; the number of edits is limited, so this ends.
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
    """Returns why a rule does not fit a node; '' if it does."""
    if not isinstance(node, _kinds_of(rule)):
        return f"it is not for a node of kind {type(node).__name__}"
    outcome = rule(program, node)
    return outcome if isinstance(outcome, str) else ""


@cache
def _kinds_of(rule: Rule) -> Any:
    return get_type_hints(getattr(rule, "func", rule)).get("node", Node)
