"""The form in which models are converted: equal calls once, different uses apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf

from .._keras import keras
from ..graph import _copies, _errors, _graph, _kinds, _operation, _signs
from ._binary import binary_parts, sign_for

_USE = re.compile(r"/use\d+$")
# Of these, too, preparation looks at the call.
_BY_CALL = (keras.layers.Rescaling, keras.layers.GroupNormalization)
_PACKAGES = ("tf_keras", "larq", "larq_nobn")


def normal_form(model: keras.Model) -> tuple[keras.Model, list[str]]:
    """Merges what is the same, and takes apart what is used in different ways.

    Calls that compute the same of the same tensors become one where a binary layer is
    among them: the converter would merge them, too, and a file would have fewer binary
    convolutions than were counted. A binary layer that is called on maps of several
    shapes, or after different signs, becomes one for each call, since each call is
    rewritten in its own way. A layer whose name is that of a part of another, as `a/1`
    is of `a`, gets another name.

    Arguments:
        model: A functional model without models inside.

    Returns:
        A model of the same function, the given one where nothing changes, and the names
        of the binary layers that others make superfluous, once for every call.
    """
    graph = _graph.Graph(model)
    equals = _equals(graph.calls)
    merged = [c.name for c in graph.calls if c.label in equals for _ in binary_parts(c)]
    for label, equal in equals.items() if merged else ():
        ends = (tf.nest.flatten(c.outputs) for c in (graph.call(label), equal))
        for own, other in zip(*ends, strict=True):
            graph = graph.with_edge(own, other)
        graph = graph.with_calls({label: []})
    renamed = _renamed(graph.calls)
    graph = graph.with_calls(renamed)
    apart = _apart(graph.calls)
    if not merged and not apart and not renamed:
        return model, []
    return _copies.to_keras(graph.with_calls(apart), shared=True), merged


def given_name(name: str) -> str:
    """The name in the given model of a layer that was made for one of several calls."""
    return _USE.sub("", name)


def _renamed(found: Sequence[_graph.Call]) -> dict[str, list[_graph.Call]]:
    """Calls of layers of other names, where a name is that of a part of another."""
    names = {call.name: call.operation for call in found}
    new: dict[str, _operation.Operation] = {}
    for name, operation in names.items():
        # What `_apart` made stays, so that a second reading of a model changes nothing.
        parts = [] if _USE.search(name) else name.split("/")
        if any("/".join(parts[:n]) in names for n in range(1, len(parts))):
            other = "_".join(parts)
            while other in names or any(x.name == other for x in new.values()):
                other += "_"
            new[name] = replace(operation, name=other)
    return {
        call.label: [
            call._replace(
                label=own.name + call.label.removeprefix(call.name),
                name=own.name,
                operation=own,
            )
        ]
        for call in found
        if (own := new.get(call.name)) is not None
    }


def _apart(found: Sequence[_graph.Call]) -> dict[str, list[_graph.Call]]:
    """Calls of new layers, in the place of some."""
    uses: dict[str, list[_graph.Call]] = defaultdict(list)
    for call in found:
        uses[call.name].append(call)
    apart = {}
    for group in list(uses.values()):
        if len(group) == 1 or not _differ(group):
            continue
        names = (f"{group[0].name}/use{n}" for n in count(2))
        free = (name for name in names if name not in uses)
        for call, name in zip(group[1:], free, strict=False):
            own = replace(call.operation, name=name)
            apart[call.label] = [call._replace(label=name, name=name, operation=own)]
    return apart


def _differ(group: Sequence[_graph.Call]) -> bool:
    """Whether calls of one layer are rewritten in different ways."""
    by_call = type(group[0].layer) in _BY_CALL or any(map(binary_parts, group))
    return by_call and len(set(map(_way, group))) > 1


def _way(call: _graph.Call) -> tuple[Any, ...]:
    given = call.first_input
    signs = _signs.kind_of(sign_for(call)) if binary_parts(call) else None
    return tuple(given.shape[1:]), given.dtype, signs


def _equals(found: Sequence[_graph.Call]) -> dict[str, _graph.Call]:
    """Calls that compute what an earlier one does, and that one, by their labels."""
    same: dict[int, int] = {}  # the first of equal tensors, all by id
    firsts: dict[Any, list[_graph.Call]] = defaultdict(list)
    equals: dict[str, _graph.Call] = {}
    for call in found:
        given = tuple(same.get(id(x), id(x)) for x in _graph.inputs_of(call.node))
        if _signs.is_identity(call.node):
            same[id(call.first_output)] = given[0]
            continue
        candidates = firsts[(type(call.layer), given)]
        equal = next((c for c in candidates if _is_same(c, call)), None)
        if equal is None:
            candidates.append(call)
            continue
        equals[call.label] = equal
        ends = (tf.nest.flatten(c.outputs) for c in (call, equal))
        for own, other in zip(*ends, strict=True):
            same[id(own)] = same.get(id(other), id(other))
    return equals


def _is_same(first: _graph.Call, second: _graph.Call) -> bool:
    """Whether two calls of equal inputs compute the same."""
    if not _is_equal(_arguments(first), _arguments(second)):
        return False
    a, b = first.layer, second.layer
    if a is b:
        return True
    if _operation.is_function(a):
        random = _kinds.symbol_of(a).startswith("random.")
        same = (
            a.function is b.function or _kinds.symbol_of(a) == _kinds.symbol_of(b) != ""
        )
        return same and not random and _is_equal(_extra(a), _extra(b))
    if not _is_known(a):
        return False
    try:
        return _is_equal(_config(a), _config(b)) and _has_equal_weights(a, b)
    except _errors.LayerError:  # a quantizer of the user's, which may be random
        return False


def _is_known(layer: keras.layers.Layer) -> bool:
    """Whether the configuration and the weights of a layer say all of it."""
    package, *parts = type(layer).__module__.split(".")
    return package in _PACKAGES and parts[:1] != ["deploy"]


def _arguments(call: _graph.Call) -> Any:
    """What a call is given, with the tensors of the model left out."""

    def constant(x: Any) -> Any:
        return None if hasattr(x, "_keras_history") else x

    given = (call.node.call_args, call.node.call_kwargs)
    return tf.nest.map_structure(constant, given)


def _extra(layer: keras.layers.Layer) -> Any:
    return getattr(layer, "arguments", {})  # of a Lambda


def _config(layer: keras.layers.Layer) -> Any:
    """What a layer's configuration says of what it computes."""
    with _errors.raised_by(layer, "cannot be written as a configuration"):
        config = dict(layer.get_config())
    for (
        name
    ) in _operation.KERNELS.values():  # of kernels, which are compared themselves
        config.pop(name, None)
    return _relevant(config)


def _relevant(config: Any) -> Any:
    if isinstance(config, (list, tuple)):
        return [_relevant(each) for each in config]
    if not isinstance(config, dict):
        return config
    return {
        key: _relevant(value)
        for key, value in config.items()
        if key not in ("name", "trainable", "metrics", "build_config")
        and not key.endswith(("_initializer", "_regularizer", "_constraint"))
    }


def _has_equal_weights(a: keras.layers.Layer, b: keras.layers.Layer) -> bool:
    if [x.shape for x in a.weights] != [x.shape for x in b.weights]:
        return False
    return all(map(np.array_equal, _values(a), _values(b)))


def _values(layer: keras.layers.Layer) -> list[np.ndarray]:
    """Its weights, of which a quantizer's are in what it makes of a kernel."""
    apart = {
        id(weight)
        for name in _operation.KERNELS.values()
        for weight in getattr(getattr(layer, name, None), "weights", ())
    }
    own = [x for x in layer.weights if id(x) not in apart]
    return [_signs.kernel_value(x) for x in own]


def _is_equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_is_equal, a, b))
    if isinstance(a, np.ndarray) or tf.is_tensor(a):
        return np.array_equal(a, b)
    return bool(a == b)
