"""One immutable graph of the calls of a model, which every pass reads and edits.

A node is a call of a layer, an edge is a tensor between two calls. **An edge is a
value**: it contains the same numbers in every graph that it is an edge of, or, where
signs alone read it, numbers of which they take the same signs. A rewrite that makes a
call compute something else gives that call a new edge, a `Value`, and a rewrite that
makes another call compute the same numbers lets that call make the old edge. So what is
known of an edge stays true whatever is edited around it, and any two graphs of one
model can be compared at all edges that both have.

An edit returns another graph. It changes no call, no operation and no Keras layer; only
`to_keras` builds layers, once, and new ones. Layers that no table knows are calls like
others: they keep their Keras layer, and no rewrite moves anything into or through them.

    graph = from_keras(model)
    graph = graph.with_operation(graph.call("conv").operation.replaced({"bias": bias}))
    model = to_keras(graph)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any

import tensorflow as tf

from .._keras import keras
from ._calls import Call, calls
from ._operation import Operation


class Value:
    """An edge that no tensor of the given model stands for.

    Arguments:
        like: An edge of the same shape and type.
    """

    def __init__(self, like: Any) -> None:
        self.shape, self.dtype = like.shape, like.dtype


class Graph:
    """The calls of a functional model at inference, and how they hang together.

    Arguments:
        model: A functional model.

    Attributes:
        model: The given one, whose inputs are the first edges.
        calls: All calls, each after the calls that it depends on.
        outputs: The edges that are the outputs of the model.
        facts: What a pass found out about edges, by their ids.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.calls: Sequence[Call] = calls(model)
        self.outputs: Sequence[Any] = model.outputs
        self.facts: Mapping[int, Any] = {}

    def call(self, label: str) -> Call:
        """Returns the call of that label."""
        return next(call for call in self.calls if call.label == label)

    def producer(self, tensor: Any) -> Call | None:
        """The call that makes a tensor; None for an input of the model."""
        return self._producers.get(id(tensor))

    def consumers(self, tensor: Any) -> list[Call]:
        """The calls that read a tensor, in order, each once."""
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
        """Returns a graph with other calls, or none, in the place of some.

        Arguments:
            changed: What stands in the place of each, by its label.
        """
        found = (changed.get(call.label, (call,)) for call in self.calls)
        return self._derived(calls=[call for part in found for call in part])

    def with_operation(self, operation: Operation, name: str = "") -> Graph:
        """Returns a graph with another operation in all calls of a layer.

        Arguments:
            operation: What they compute from now on.
            name: The layer, if the operation has another name.
        """
        changed = {
            call.label: [call._replace(name=operation.name, operation=operation)]
            for call in self.uses(name or operation.name)
        }
        return self.with_calls(changed)

    def with_edge(self, old: Any, new: Any) -> Graph:
        """Returns a graph in which what reads an edge reads another of its value."""
        return self._derived(
            calls=[call.reading(old, new) for call in self.calls],
            outputs=[new if end is old else end for end in self.outputs],
        )

    def renewed(self, edges: Iterable[Any]) -> Graph:
        """Returns a graph in which some edges hold other numbers, and so are others."""
        new = {id(edge): Value(edge) for edge in edges}

        def other(edge: Any) -> Any:
            return new.get(id(edge), edge)

        calls = [
            call._replace(
                reads=tuple(map(other, call.reads)),
                inputs=tf.nest.map_structure(other, call.inputs),
                outputs=tf.nest.map_structure(other, call.outputs),
            )
            for call in self.calls
        ]
        return self._derived(calls=calls) if new else self

    def with_facts(self, facts: Mapping[int, Any]) -> Graph:
        """Returns the same graph, and what is known of its edges."""
        return self._derived(facts=facts)

    def _derived(self, **changes: Any) -> Graph:
        other = copy(self)
        for index in ("_producers", "_consumers", "_uses"):
            vars(other).pop(index, None)
        vars(other).update(changes)
        return other

    @cached_property
    def _producers(self) -> dict[int, Call]:
        return {id(x): c for c in self.calls for x in tf.nest.flatten(c.outputs)}

    @cached_property
    def _consumers(self) -> dict[int, list[Call]]:
        found: dict[int, list[Call]] = defaultdict(list)
        for call in self.calls:
            # Not the inputs of the call alone: tensors may come as other arguments.
            for key in {id(tensor): None for tensor in call.reads}:
                found[key].append(call)
        return found

    @cached_property
    def _uses(self) -> dict[str, list[Call]]:
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            found[call.name].append(call)
        return found
