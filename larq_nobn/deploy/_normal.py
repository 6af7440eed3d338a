"""The form in which models are converted: different uses of a layer are apart."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from .._keras import keras
from ..graph import _copies, _graph, _operation, _signs
from ._binary import binary_parts, sign_of_kernel_input

_USE = re.compile(r"/use\d+$")
# Preparation looks at the calls of these, too.
_BY_CALL = (keras.layers.Rescaling, keras.layers.GroupNormalization)


def normal_form(model: keras.Model) -> keras.Model:
    """Takes apart what is used in different ways.

    A binary layer that is called on maps of several shapes, or after different signs,
    becomes one for each call, since each call is rewritten in its own way. A layer
    whose name is that of a part of another, as `a/1` is of `a`, gets another name.

    Arguments:
        model: A functional model without models inside.

    Returns:
        A model of the same function, the given one where nothing changes.
    """
    graph = _graph.Graph(model)
    renamed = _renamed(graph.calls)
    graph = graph.with_calls(renamed)
    apart = _apart(graph.calls)
    if not apart and not renamed:
        return model
    return _copies.to_keras(graph.with_calls(apart), shared=True)


def given_name(name: str) -> str:
    """The name in the given model of a layer that was made for one of several calls."""
    return _USE.sub("", name)


def _renamed(calls: Sequence[_graph.Call]) -> dict[str, list[_graph.Call]]:
    """Calls of layers of other names, where a name is that of a part of another."""
    names = {call.name: call.operation for call in calls}
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
        for call in calls
        if (own := new.get(call.name)) is not None
    }


def _apart(calls: Sequence[_graph.Call]) -> dict[str, list[_graph.Call]]:
    """Calls of new layers, in the place of some."""
    uses: dict[str, list[_graph.Call]] = defaultdict(list)
    for call in calls:
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
    signs = _signs.kind_of(sign_of_kernel_input(call)) if binary_parts(call) else None
    return tuple(given.shape[1:]), given.dtype, signs
