"""One immutable graph of the calls of a model, which every pass reads and edits.

A node is a call of a layer, an edge is a tensor between two calls. **An edge is a
value**: it has the same numbers, or for edges that only signs read, numbers of the same
signs, in every graph that contains it. A rewrite that changes what a call computes
gives the call a new edge, a `NewEdge`; a rewrite that computes the same numbers by
another call lets that call make the old edge. So facts about an edge stay true whatever
is edited around it, and two graphs of one model are comparable at all common edges.

An edit returns another graph, and changes no call, operation or Keras layer. Only
`to_keras` builds layers, all at once, and new ones. Layers without known traits are
calls like others: they keep their Keras layer, and no rewrite moves anything into or
through them.

    graph = from_keras(model)
    conv = graph.uses("conv")[0].operation
    model = to_keras(graph.with_operation(conv.replaced({"bias": bias})))
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, count
from typing import Any, NamedTuple

import tensorflow as tf

from .._keras import keras
from ..layers import BatchKalmanNormalization, BatchNormalizationPreconditioning
from ._operation import Operation


class Call(NamedTuple):
    """One use of a layer, which is a node of a graph; a layer used twice has two.

    A call never changes: an edit of a graph replaces it by another.

    Attributes:
        label: The name of the call, which is unique.
        name: The name of the layer in the graph.
        outputs: The tensors that it makes, nested as Keras returns them.
        node: The Keras node that it came from; None for a call that an edit added.
        reads: The tensors that it reads at inference.
        operation: The function that it computes, shared by all calls of its layer.
    """

    label: str
    name: str
    outputs: Any
    node: Any
    reads: tuple[Any, ...]
    operation: Operation

    @property
    def layer(self) -> keras.layers.Layer:
        """A Keras layer that computes the call; the given one, unless it was edited."""
        return self.operation.layer

    @property
    def first_input(self) -> Any:
        return self.reads[0]

    @property
    def first_output(self) -> Any:
        """The first tensor that it makes; of Kalman normalization, the features."""
        return tf.nest.flatten(self.outputs)[0]

    @property
    def described(self) -> str:
        """The layer's name and class, for a message."""
        return f"{self.name!r} ({self.operation.kind.__name__})"

    def reading(self, old: Any, new: Any) -> Call:
        """Returns the call, reading the tensor `new` instead of `old`."""
        return self._replace(reads=tuple(new if x is old else x for x in self.reads))

    def arguments(self, values: Sequence[Any]) -> tuple[Any, Any]:
        """Returns the arguments of the call, with `values` in place of its inputs."""
        # Keras takes one value off a list for each read of a tensor, as in x + x.
        pairs = zip(inputs_of(self.node), values, strict=True)
        lists = {str(id(old)): [new] * len(values) for old, new in pairs}
        return self.node.map_arguments(lists)


def calls_of(model: keras.Model) -> list[Call]:
    """Lists the layer calls of inference, each after the calls that it depends on.

    The uses of a layer keep the order in which they were made. So they have the same
    numbers in a model that is built again, whatever is added to its branches.
    """
    by_depth, needed = model._nodes_by_depth, _needed(model.outputs)
    depths = sorted(by_depth, reverse=True)
    nodes = [node for depth in depths for node in by_depth[depth] if node in needed]
    nodes = _with_uses_in_order([node for node in nodes if not node.is_input])
    uses = Counter(node.layer.name for node in nodes)
    seen: Counter[str] = Counter()
    operations: dict[str, Operation] = {}
    made = []
    for node in nodes:
        name = node.layer.name
        seen[name] += 1
        label = name if uses[name] == 1 else f"{name} (use {seen[name]})"
        if name not in operations:
            layer = node.layer
            if isinstance(layer, BatchNormalizationPreconditioning):
                layer = layer.layer
            operations[name] = Operation(name, type(layer), layer)
        reads = tuple(inputs_of(node))
        made.append(Call(label, name, node.outputs, node, reads, operations[name]))
    return made


def _with_uses_in_order(nodes: list[Any]) -> list[Any]:
    """Sorts the uses of each layer by age, and moves only the nodes that this needs."""
    known, ordered = set(nodes), dict[Any, None]()
    earlier: dict[Any, Any] = {}
    for layer in {node.layer for node in nodes}:
        uses = [node for node in layer.inbound_nodes if node in known]
        earlier.update(zip(uses[1:], uses, strict=False))
    for last in nodes:
        left = [last]
        while left:
            node = left[-1]
            waits = [maker_of(tensor) for tensor in inputs_of(node)]
            waits += [earlier[node]] if node in earlier else []
            missing = [n for n in waits if n in known and n not in ordered]
            if missing:
                left += missing
            else:
                ordered[left.pop()] = None
    return list(ordered)


def maker_of(tensor: Any) -> Any:
    layer, index, _ = tensor._keras_history
    return layer.inbound_nodes[index]


def _needed(outputs: list[Any]) -> set[Any]:
    """Returns the nodes that some tensors depend on at inference."""
    needed, left = set(), list(outputs)
    while left:
        node = maker_of(left.pop())
        if node not in needed:
            needed.add(node)
            left += inputs_of(node)
    return needed


def inputs_of(node: Any) -> list[Any]:
    """Returns the symbolic tensors that a call reads at inference."""
    # The further inputs are states, which only training needs.
    stateful = isinstance(node.layer, BatchKalmanNormalization)
    return node.keras_inputs[:1] if stateful else node.keras_inputs


def free_name(name: str, taken: Container[str]) -> str:
    """Returns a name that is not taken: `name`, or `name` with a number."""
    numbered = (f"{name}_{number}" for number in count(1))
    return next(free for free in chain([name], numbered) if free not in taken)


class NewEdge:
    """An edge that is no tensor of the given model, with another's shape and type."""

    def __init__(self, like: Any) -> None:
        self.shape, self.dtype = like.shape, like.dtype


class Graph:
    """The calls of a functional model at inference, and the edges between them.

    Arguments:
        model: A functional model, whose inputs are the first edges.
        calls: All calls, each after the calls that it depends on; None for the model's.
        outputs: The edges that are the outputs; None for the model's.
    """

    def __init__(
        self,
        model: keras.Model,
        calls: Sequence[Call] | None = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        self.model = model
        self.calls = calls_of(model) if calls is None else calls
        self.outputs = model.outputs if outputs is None else outputs

    def free(self, name: str) -> str:
        """Returns a name that no layer has: `name`, or `name` with a number."""
        taken = {*(call.name for call in self.calls), *self.model.input_names}
        return free_name(name, taken)

    def producer(self, tensor: Any) -> Call | None:
        """Returns the call that makes a tensor; None for an input of the model."""
        return self._producers.get(id(tensor))

    def consumers(self, tensor: Any) -> list[Call]:
        """Returns the calls that read a tensor, in order, each once."""
        return self._consumers.get(id(tensor), [])

    def is_output(self, tensor: Any) -> bool:
        return any(tensor is end for end in self.outputs)

    def sole_consumer(self, tensor: Any) -> Call | None:
        """Returns the call that reads a tensor, if the tensor has no other use."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and not self.is_output(tensor) else None

    def uses(self, name: str) -> list[Call]:
        return self._uses.get(name, [])

    def with_calls(self, changed: Mapping[str, Sequence[Call]]) -> Graph:
        """Returns a graph with the calls of some labels replaced by others, or none."""
        replacements = (changed.get(call.label, (call,)) for call in self.calls)
        made = [call for part in replacements for call in part]
        return Graph(self.model, made, self.outputs)

    def with_operation(self, operation: Operation) -> Graph:
        """Returns a graph in which all calls of a layer have another operation."""
        changed = {
            call.label: [call._replace(operation=operation)]
            for call in self.uses(operation.name)
        }
        return self.with_calls(changed)

    def with_row(self, name: str, row: Sequence[Operation]) -> Graph:
        """Returns a graph in which operations in a row replace all calls of a layer.

        Each has one input; the last one makes the layer's output. With an empty row,
        readers of the layer read its input instead.
        """
        graph = self
        for use in self.uses(name):
            edge, row_calls = use.first_input, []
            for operation in row:
                own, label = operation.name, operation.name + use.label[len(name) :]
                after = NewEdge(use.first_input)
                row_calls.append(Call(label, own, after, None, (edge,), operation))
                edge = after
            if row:
                # The last one may read more than the layer's input.
                last, end = row_calls[-1], use.first_output
                reads = use.reading(use.first_input, last.first_input).reads
                row_calls[-1] = last._replace(reads=reads, outputs=end, node=use.node)
            graph = graph.with_calls({use.label: row_calls})
            if not row:
                graph = graph.with_edge(use.first_output, use.first_input)
        return graph

    def with_edge(self, old: Any, new: Any) -> Graph:
        """Returns a graph in which readers of an edge read another of equal value."""
        made = [call.reading(old, new) for call in self.calls]
        ends = [new if end is old else end for end in self.outputs]
        return Graph(self.model, made, ends)

    @cached_property
    def _producers(self) -> dict[int, Call]:
        return {id(x): c for c in self.calls for x in tf.nest.flatten(c.outputs)}

    @cached_property
    def _consumers(self) -> dict[int, list[Call]]:
        # Tensors may also come as other arguments than the inputs.
        return _by_key((key, c) for c in self.calls for key in set(map(id, c.reads)))

    @cached_property
    def _uses(self) -> dict[str, list[Call]]:
        return _by_key((call.name, call) for call in self.calls)


def _by_key(pairs: Iterable[tuple[Any, Call]]) -> dict[Any, list[Call]]:
    calls: dict[Any, list[Call]] = defaultdict(list)
    for key, call in pairs:
        calls[key].append(call)
    return calls
