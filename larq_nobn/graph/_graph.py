"""One immutable graph of the calls of a model, which every pass reads and edits.

A node is a call of a layer, an edge is a tensor between two calls. **An edge is a
value**: it contains the same numbers in every graph that it is an edge of, or, where
signs alone read it, numbers of which they take the same signs. A rewrite that makes a
call compute something else gives that call a new edge, a `NewEdge`, and a rewrite that
makes another call compute the same numbers lets that call make the old edge. So what is
known of an edge stays true whatever is edited around it, and any two graphs of one
model can be compared at all edges that both have.

An edit returns another graph. It changes no call, no operation and no Keras layer; only
`to_keras` builds layers, once, and new ones. Layers that no table knows are calls like
others: they keep their Keras layer, and no rewrite moves anything into or through them.

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

    Nothing changes a call: an edit of a graph puts others in its place.

    Attributes:
        label: Its name, which no other call has.
        name: That of the layer in the graph.
        outputs: The tensors that it makes, as they are nested.
        node: The Keras node that it came from; None for a call that an edit added.
        reads: The tensors that it reads at inference.
        operation: What it computes, shared by all calls of its layer.
    """

    label: str
    name: str
    outputs: Any
    node: Any
    reads: tuple[Any, ...]
    operation: Operation

    @property
    def layer(self) -> keras.layers.Layer:
        """A Keras layer of what it computes: the given one, if no edit changed it."""
        return self.operation.layer

    @property
    def first_input(self) -> Any:
        """The first tensor that it reads."""
        return self.reads[0]

    @property
    def first_output(self) -> Any:
        """The first tensor that it makes: of Kalman normalization, the features."""
        return tf.nest.flatten(self.outputs)[0]

    @property
    def described(self) -> str:
        """The layer in the words of a message."""
        return f"{self.name!r} ({self.operation.kind.__name__})"

    def reading(self, old: Any, new: Any) -> Call:
        """Returns the same call with another tensor in the place of one."""
        return self._replace(reads=tuple(new if x is old else x for x in self.reads))

    def arguments(self, given: Sequence[Any]) -> tuple[Any, Any]:
        """Positional and keyword arguments of the call, with others for its inputs."""
        # Keras takes one off each list, which is read more than once in x + x.
        pairs = zip(inputs_of(self.node), given, strict=True)
        lists = {str(id(old)): [new] * len(given) for old, new in pairs}
        return self.node.map_arguments(lists)


def calls_of(model: keras.Model) -> list[Call]:
    """Lists the layer calls of inference, each after the calls that it depends on.

    The uses of a layer come in the order in which they were made, so that they are
    numbered alike in a model that is built again, whatever is added to its branches.
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
    """Moves those nodes alone for which some use of a layer has to wait."""
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
    """Returns the node that makes a tensor."""
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
    # Without a state, which only training needs.
    stateful = isinstance(node.layer, BatchKalmanNormalization)
    return node.keras_inputs[:1] if stateful else node.keras_inputs


def free_name(name: str, taken: Container[str]) -> str:
    """Returns a name that is not taken: this one, or this one with a number."""
    numbered = (f"{name}_{number}" for number in count(1))
    return next(free for free in chain([name], numbered) if free not in taken)


class NewEdge:
    """An edge like another, which no tensor of the given model stands for."""

    def __init__(self, like: Any) -> None:
        self.shape, self.dtype = like.shape, like.dtype


class Graph:
    """The calls of a functional model at inference, and how they hang together.

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
        """Returns a name that no layer has: this one, or this one with a number."""
        return Names(self).free(name)

    def producer(self, tensor: Any) -> Call | None:
        """Returns the call that makes a tensor; None for an input of the model."""
        return self._producers.get(id(tensor))

    def consumers(self, tensor: Any) -> list[Call]:
        """Returns the calls that read a tensor, in order, each once."""
        return self._consumers.get(id(tensor), [])

    def is_output(self, tensor: Any) -> bool:
        """Whether a tensor is an output of the model."""
        return any(tensor is end for end in self.outputs)

    def sole_consumer(self, tensor: Any) -> Call | None:
        """The call that reads a tensor, if it is the only use that is made of it."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and not self.is_output(tensor) else None

    def uses(self, name: str) -> list[Call]:
        """All calls of the layer of that name."""
        return self._uses.get(name, [])

    def with_calls(self, changed: Mapping[str, Sequence[Call]]) -> Graph:
        """Returns a graph with other calls, or none, in the place of some, by label."""
        replacements = (changed.get(call.label, (call,)) for call in self.calls)
        made = [call for part in replacements for call in part]
        return Graph(self.model, made, self.outputs)

    def with_operation(self, operation: Operation) -> Graph:
        """Returns a graph with another operation in all calls of a layer."""
        changed = {
            call.label: [call._replace(operation=operation)]
            for call in self.uses(operation.name)
        }
        return self.with_calls(changed)

    def with_row(self, name: str, row: Sequence[Operation]) -> Graph:
        """Returns a graph with operations in a row in all calls of a layer.

        Arguments:
            name: The layer.
            row: Operations of one input each, the last of which makes what the layer
                made. Without any, the readers of the layer read its input.
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
        """Returns a graph in which what reads an edge reads another of its value."""
        made = [call.reading(old, new) for call in self.calls]
        ends = [new if end is old else end for end in self.outputs]
        return Graph(self.model, made, ends)

    @cached_property
    def _producers(self) -> dict[int, Call]:
        return {id(x): c for c in self.calls for x in tf.nest.flatten(c.outputs)}

    @cached_property
    def _consumers(self) -> dict[int, list[Call]]:
        # Not the inputs of a call alone: tensors may come as other arguments.
        return _by_key((key, c) for c in self.calls for key in set(map(id, c.reads)))

    @cached_property
    def _uses(self) -> dict[str, list[Call]]:
        return _by_key((call.name, call) for call in self.calls)


class Names:
    """The names of the layers of a graph, and free ones beside them."""

    def __init__(self, graph: Graph) -> None:
        self._taken = {*(call.name for call in graph.calls), *graph.model.input_names}

    def free(self, name: str) -> str:
        """Returns a name that nothing has and takes it: this one, or with a number."""
        name = free_name(name, self._taken)
        self._taken.add(name)
        return name


def _by_key(pairs: Iterable[tuple[Any, Call]]) -> dict[Any, list[Call]]:
    calls: dict[Any, list[Call]] = defaultdict(list)
    for key, call in pairs:
        calls[key].append(call)
    return calls
