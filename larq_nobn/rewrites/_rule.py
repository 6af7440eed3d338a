"""What a rewrite of a graph is, and the affine operations that most of them move.

A rule is a function of a graph and one of its calls. It returns another graph that
computes the same, or why it cannot, or None if the call is none of its business. It
never changes what it was given, so that trying it costs nothing.

An affine operation is y = scale * x + bias, per channel of the last axis. It is a
`ChannelAffine` to all who read the graph: a batch norm becomes one first of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from .._errors import InternalError, UserError
from .._keras import keras
from ..graph import _errors, _graph, _operation
from ..layers import ChannelAffine


class Edit(NamedTuple):
    """Another graph that computes the same.

    Attributes:
        graph: It.
        words: What was done, for a report; empty if there is nothing to say.
    """

    graph: _graph.Graph
    words: str = ""


class Refusal(NamedTuple):
    """Why a rule does not fit, as half a sentence for a report."""

    reason: str


class NotExact(Exception):
    """Raised inside a rule with what its refusal says."""


GraphRule = Callable[[_graph.Graph, _graph.Call], Edit | Refusal | None]


def rule(match: GraphRule) -> GraphRule:
    """Makes a rule of a function that raises `NotExact` where it rejects."""

    @wraps(match)
    def matched(graph: _graph.Graph, call: _graph.Call) -> Edit | Refusal | None:
        try:
            return match(graph, call)
        except NotExact as error:
            return Refusal(str(error))

    return matched


def applied(
    rule: GraphRule, graph: _graph.Graph, call: _graph.Call
) -> Edit | Refusal | None:
    """Applies a rule to a call, and names the layer if the rule fails.

    Raises:
        InternalError: If it raises an error that is no reason.
    """
    try:
        return rule(graph, call)
    except (UserError, InternalError, *_errors.OF_MEMORY):
        raise
    except Exception as error:
        raise _errors.internal_error(
            f"Rewriting layer {call.described}", error
        ) from error


def everywhere(graph: _graph.Graph, rule: GraphRule) -> _graph.Graph:
    """Applies a rule to every call, until it fits none."""
    calls = list(graph.calls)
    while calls:
        outcome = applied(rule, graph, calls.pop(0))
        if isinstance(outcome, Edit):
            graph = outcome.graph
            calls = list(graph.calls)
    return graph


def once(graph: _graph.Graph, rules: Sequence[GraphRule]) -> _graph.Graph:
    """Applies to each layer of a graph the first rule that fits, one time."""
    for name in dict.fromkeys(call.name for call in graph.calls):
        if uses := graph.uses(name):
            outcomes = (applied(rule, graph, uses[0]) for rule in rules)
            edits = (x.graph for x in outcomes if isinstance(x, Edit))
            graph = next(edits, graph)
    return graph


class Affine(NamedTuple):
    """A scale and a bias per channel, (C,) each, in float64.

    Attributes:
        trainable: Whether they were trained.
        dtype: The precision of their layer.
    """

    scale: np.ndarray
    bias: np.ndarray
    trainable: bool
    dtype: str

    def tiled(self, channels: int) -> Affine:
        """Returns an affine operation for positions in a row as channels."""
        times = channels // self.scale.size
        return self._replace(
            scale=np.tile(self.scale, times), bias=np.tile(self.bias, times)
        )


def is_affine(call: _graph.Call) -> bool:
    """Tells whether a call is an affine operation.

    What reads whole numbers, such as bins, makes some, and drops the rest.
    """
    is_real = call.first_input.dtype.is_floating
    return is_real and issubclass(call.operation.kind, ChannelAffine)


def affine_of(operation: _operation.Operation) -> Affine:
    """Reads the numbers of an affine operation."""
    arrays, origins = operation.arrays, operation.origins
    return Affine(
        arrays["gamma"].astype(np.float64),
        arrays["beta"].astype(np.float64),
        any(layer.trainable_weights for layer in origins),
        origins[-1].compute_dtype if origins else "float32",
    )


def affine_operation(
    name: str,
    scale: Any,
    bias: Any,
    origins: tuple[keras.layers.Layer, ...] = (),
) -> _operation.Operation:
    """Makes an affine operation in the place of some layers.

    Arguments:
        name: Its name.
        scale, bias: (C,) or a number, each.
        origins: The layers whose work it does, last the one whose precision it has;
            none in a network that is no longer trained.
    """
    arguments = {}
    if origins:
        trainable = any(layer.trainable_weights for layer in origins)
        policy = origins[-1].dtype_policy.name
        arguments = {"dtype": policy, "trainable": trainable}
    values = {"gamma": scale, "beta": bias}
    return _operation.Operation(name, ChannelAffine, None, arguments, values, origins)


def rescaled(
    operation: _operation.Operation, scale: np.ndarray, bias: np.ndarray
) -> _operation.Operation:
    """Returns an affine operation of other numbers."""
    return operation.replaced({"gamma": scale, "beta": bias})


def is_shared(graph: _graph.Graph, call: _graph.Call) -> bool:
    """Tells whether the layer of a call has other calls."""
    return len(graph.uses(call.name)) > 1


def reader_of(graph: _graph.Graph, affine: _graph.Call) -> _graph.Call:
    """Returns the one call that reads an affine operation, where it may take it over.

    Raises:
        NotExact: If there is none, it is shared, or it computes in another precision.
    """
    reader = graph.sole_consumer(affine.first_output)
    if reader is None:
        raise NotExact(f"the output of {affine.described} is read elsewhere too")
    if is_shared(graph, reader):
        raise NotExact(f"{reader.described} is used more than once")
    if reader.layer.compute_dtype != affine_of(affine.operation).dtype:
        raise NotExact(f"{reader.described} computes in {reader.layer.compute_dtype}")
    return reader


def check_trains(call: _graph.Call, affine: Affine) -> None:
    """Rejects a frozen layer, where what is trained would not be any more.

    Raises:
        NotExact: Naming the layer.
    """
    if affine.trainable and not call.layer.trainable:
        raise NotExact(f"{call.name!r} is frozen")
